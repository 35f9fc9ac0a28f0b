"""WebSocket addresses."""

from __future__ import annotations

from django.urls import re_path

from sessions_app.consumers import SessionLiveView, UnknownPath
from sessions_app.sse import SESSION_ID

#: where a session's live view is, under the site's root
LIVE_VIEW_PATH = "ws/admin/sessions/{session_id}/"

websocket_urlpatterns = [
    re_path(rf"^ws/admin/sessions/(?P<session_id>{SESSION_ID.pattern})/$", SessionLiveView.as_asgi()),
    # Without it the router raises, and every scanner that knocks leaves a stack trace in the log.
    re_path(r"", UnknownPath.as_asgi()),
]
