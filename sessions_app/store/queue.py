"""Send a session to the workers. The broker may lose, repeat or reorder messages: the row is authoritative."""

from __future__ import annotations

import logging
import time

from celery import current_app
from django.conf import settings

log = logging.getLogger(__name__)

#: after a failure nothing is sent for this long: otherwise every new session waits for a hanging broker's time-out
PAUSE_SECONDS = 3.0
_paused_until = 0.0


def send(session_id: str) -> None:
    """Send the session's id to the workers. While the broker is down, they find the session by polling the database."""
    global _paused_until
    if time.monotonic() < _paused_until:
        return
    try:
        current_app.send_task(settings.SESSION_RUN_TASK, args=[session_id], ignore_result=True)
    except Exception as exc:  # kombu raises its own errors, the transport's and the socket's
        _paused_until = time.monotonic() + PAUSE_SECONDS
        log.warning("the broker accepts no messages; workers will find the sessions by polling: %s", exc)
