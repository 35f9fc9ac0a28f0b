"""The ASGI entry point: HTTP by Django, WebSockets by Channels (the live view of a run in the admin)."""

from __future__ import annotations

import os
import re

import django
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter

from config.in_turn import in_turn
from config.on_the_loop import without_threads

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup(set_prefix=False)

# All of these need Django set up.
from config.asgi_handler import Handler  # noqa: E402
from inference.api.arrival import with_last_resort  # noqa: E402
from sessions_app.origins import OwnPagesOnly  # noqa: E402
from sessions_app.routing import websocket_urlpatterns  # noqa: E402

#: where every view is asynchronous. Not ``openapi.json``, whose making takes its time
API_VIEWS = re.compile(r"/(v1/|ktp-ocr/?$|health$|live$|ready$|metrics$)")

#: /health is asked whether the server lives, and is not among those that wait
BEGIN_IN_TURN = re.compile(r"/(v1/|ktp-ocr/?$)")

application = ProtocolTypeRouter(
    {
        "http": in_turn(
            with_last_resort(without_threads(Handler(), for_path=API_VIEWS.match)), for_path=BEGIN_IN_TURN.match
        ),
        "websocket": OwnPagesOnly(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
    }
)
