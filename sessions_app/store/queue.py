"""Sending a session to the workers. The broker may lose, repeat or reorder what is sent: the row is the truth."""

from __future__ import annotations

import logging
import time

from celery import current_app
from django.conf import settings

log = logging.getLogger(__name__)

#: after a failure nothing is sent for so long: a broker that hangs would cost its time-outs for every session
PAUSE_SECONDS = 3.0
_quiet_until = 0.0


def send(session_id: str) -> None:
    """Put the session into the workers' queue. A broker that is down costs only time: workers find it by looking."""
    global _quiet_until
    if time.monotonic() < _quiet_until:
        return
    try:
        current_app.send_task(settings.SESSION_RUN_TASK, args=[session_id], ignore_result=True)
    except Exception as exc:  # kombu lets many kinds through: its own, the transport's, the socket's
        _quiet_until = time.monotonic() + PAUSE_SECONDS
        log.warning("the broker takes no messages, workers find the sessions by looking: %s", exc)
