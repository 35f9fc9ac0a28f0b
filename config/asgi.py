"""The ASGI entry point: HTTP by Django, WebSockets by Channels (the live view of a run in the admin)."""

from __future__ import annotations

import os
import re

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application

from config.on_the_loop import without_threads

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django_application = get_asgi_application()

from sessions_app.routing import websocket_urlpatterns  # noqa: E402  (models need the application set up above)

#: where every view is asynchronous. Not ``openapi.json``, whose making takes its time
API_VIEWS = re.compile(r"/(v1/|ktp-ocr/?$|health$)")

application = ProtocolTypeRouter(
    {
        "http": without_threads(django_application, for_path=API_VIEWS.match),
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
    }
)
