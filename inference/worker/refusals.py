"""Fail queued sessions when no worker could load the model."""

from __future__ import annotations

from inference.models import ModelWorker
from inference.readiness import model_failed_error
from sessions_app.models import ChatSession
from sessions_app.store import transitions

#: maximum number of sessions failed in one pass
BATCH_SESSIONS = 200


def refuse_session(session_id: str, reason: str) -> bool:
    """Fail a queued session because the model failed to load; False when another worker has it or is loading it."""
    if _any_worker_has_the_model():
        return False
    transitions.fail(session_id, model_failed_error(reason))
    return True


def refuse_queued(reason: str) -> int:
    """Fail queued sessions, at most ``BATCH_SESSIONS``, if no worker has the model or is loading it.

    Returns how many were failed.
    """
    if _any_worker_has_the_model():
        return 0
    session_ids = list(ChatSession.objects.queued().values_list("pk", flat=True)[:BATCH_SESSIONS])
    for session_id in session_ids:
        transitions.fail(session_id, model_failed_error(reason))
    return len(session_ids)


def _any_worker_has_the_model() -> bool:
    capable = (ModelWorker.State.READY, ModelWorker.State.LOADING)
    return ModelWorker.objects.alive().filter(state__in=capable).exists()
