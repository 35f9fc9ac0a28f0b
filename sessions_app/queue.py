"""Sending a session to the workers. The broker may lose, repeat or reorder what is sent: the row is the truth."""

from __future__ import annotations

import logging

from celery import current_app
from django.conf import settings

log = logging.getLogger(__name__)


def send(session_id: str) -> None:
    """Put the session into the workers' queue. A broker that is down costs only time: the sweeper sends it again."""
    try:
        current_app.send_task(settings.SESSION_RUN_TASK, args=[session_id], ignore_result=True)
    except Exception as exc:  # kombu lets many kinds through: its own, the transport's, the socket's
        log.warning("session %s was not sent to the broker and waits for the sweeper: %s", session_id, exc)
