"""The ASGI entry point: HTTP by Django, WebSockets by Channels (the live view of a run in the admin)."""

from __future__ import annotations

import os

import django
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter

from config.in_turn import in_turn
from config.on_the_loop import without_threads

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup(set_prefix=False)

# All of these need Django set up.
from config.asgi_handler import Handler  # noqa: E402
from inference.api.early_errors import with_error_fallback  # noqa: E402
from inference.api.paths import begins_in_turn, is_served_on_the_loop  # noqa: E402
from sessions_app.origins import OwnPagesOnly  # noqa: E402
from sessions_app.routing import websocket_urlpatterns  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": in_turn(
            with_error_fallback(without_threads(Handler(), for_path=is_served_on_the_loop)), for_path=begins_in_turn
        ),
        "websocket": OwnPagesOnly(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
    }
)
