"""The transitions of an open session: claim, release, cancel, fail. Each is one transaction.

Half of the fencing rule is here: a claim raises ``attempt``. The other half is in ``appending``.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable
from typing import Any

from django.db import transaction
from django.utils import timezone

from sessions_app.errors import ApiError, SessionNotFound
from sessions_app.models import ChatSession, Chunk, SessionEvent
from sessions_app.store import queue, sql
from sessions_app.store.appending import Closing, close_unheld, lease_end
from sessions_app.turns import Slot


def claim(session_id: str, *, worker: str, fingerprint: dict[str, Any] | None = None) -> ChatSession | None:
    """Claim the session for this worker, with a new fencing token and a lease; None when it is not claimable.

    A session is claimable while it is queued, or running with an expired lease. Of two concurrent claims exactly
    one succeeds. A session that has lost ``SESSION_MAX_ATTEMPTS`` workers is left to the sweeper, which fails it.
    ``fingerprint`` is stored as long as only chunk 0 is committed: later attempts must have the same one.
    """
    return next(iter(_claim(session_id, worker, fingerprint)), None)


def claim_next(
    *, worker: str, fingerprint: dict[str, Any] | None = None, slot: Slot = Slot.COMMON, limit: int = 1
) -> list[ChatSession]:
    """Claim up to ``limit`` sessions whose turn it is for such a ``slot``, each as ``claim`` does.

    They come in turns: the first of each caller, then the second of each.
    """
    turns = Counter[tuple[str, str]]()

    def turn_of(session: ChatSession) -> int:
        turns[session.caller, session.origin] += 1
        return turns[session.caller, session.origin]

    opened = sorted(_claim(slot, worker, fingerprint, limit), key=lambda session: session.created_at)
    return sorted(opened, key=turn_of)


def _claim(chosen: str | Slot, worker: str, fingerprint: dict[str, Any] | None, limit: int = 1) -> list[ChatSession]:
    now = timezone.now()
    return sql.claim(
        chosen, worker=worker, fingerprint=fingerprint or {}, now=now, lease_end=lease_end(now), limit=limit
    )


def cancel_requested_among(session_ids: Iterable[str]) -> set[str]:
    """Which of these sessions are running and have a cancel request."""
    wanted = ChatSession.objects.running().filter(pk__in=list(session_ids), cancel_requested_at__isnull=False)
    return set(wanted.values_list("pk", flat=True))


def release(session_id: str, attempt: int, *, only_if_expired: bool = False) -> bool:
    """Requeue a running session with its chunks, for another worker to continue; False when ``attempt`` is fenced.

    With ``only_if_expired`` its worker counts as lost, and a session whose lease has been renewed is left alone. A
    session with a cancel request ends here instead.
    """
    with transaction.atomic():
        held = ChatSession.objects.with_expired_lease() if only_if_expired else ChatSession.objects.all()
        # A worker that froze inside a transaction still locks its row. It must not block the sweep of all others.
        locked = held.select_for_update(skip_locked=only_if_expired)
        session = locked.held_by(attempt).filter(pk=session_id).first()
        if session is None:
            return False
        if session.cancel_requested_at is not None:
            close_unheld(session, Closing(reason="cancelled", completion_tokens=_tokens_committed(session)))
            return True
        now = timezone.now()
        kind = SessionEvent.Kind.LEASE_EXPIRED if only_if_expired else SessionEvent.Kind.RELEASED
        SessionEvent.objects.create(session=session, kind=kind, at=now, attempt=attempt, worker=session.worker)
        session.state = ChatSession.State.QUEUED
        session.lease_expires_at = None
        session.enqueued_at = now
        session.worker = ""
        session.workers_lost += only_if_expired
        session.save(update_fields=["state", "lease_expires_at", "enqueued_at", "worker", "workers_lost"])
        transaction.on_commit(functools.partial(queue.send, session_id))
    return True


def request_cancel(session_id: str) -> ChatSession:
    """Cancel the session: at once if no worker holds it; otherwise set ``cancel_requested_at``. Idempotent.

    The worker's chunk writer polls the column by ``cancel_requested_among`` and cancels the engine's handles. Raises
    ``SessionNotFound``.
    """
    with transaction.atomic():
        session = ChatSession.objects.select_for_update().filter(pk=session_id).first()
        if session is None:
            raise SessionNotFound(session_id)
        if session.state == ChatSession.State.RUNNING and not _has_expired_lease(session):
            if session.cancel_requested_at is None:
                session.cancel_requested_at = timezone.now()
                session.save(update_fields=["cancel_requested_at"])
        elif not session.is_finished:
            close_unheld(session, Closing(reason="cancelled", completion_tokens=_tokens_committed(session)))
    return session


def fail(session_id: str, error: ApiError) -> bool:
    """End a session that no worker holds with an error, keeping its chunks; False when it is held or has ended."""
    with transaction.atomic():
        session = ChatSession.objects.select_for_update().claimable().filter(pk=session_id).first()
        if session is None:
            return False
        close_unheld(session, Closing.failed(error, completion_tokens=_tokens_committed(session)))
    return True


def _tokens_committed(session: ChatSession) -> int:
    return len(Chunk.objects.token_ids_of(session.pk))


def _has_expired_lease(session: ChatSession) -> bool:
    return session.lease_expires_at is not None and session.lease_expires_at < timezone.now()
