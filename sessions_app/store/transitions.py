"""What becomes of an open session besides its text: claim, release, cancel, fail. Each is one transaction.

Half of the fencing rule lives here: a claim raises ``attempt``. The other half is in ``appending``.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from sessions_app import metrics, wakeups
from sessions_app.models import ChatSession, Chunk, SessionEvent
from sessions_app.store import queue
from sessions_app.store.appending import Closing, lease_end
from sessions_app.turns import CLAIMABLE, Slot, next_session
from sessions_app.wakeups import StreamChunk, Wakeup

#: ``claimable`` and the claim in one statement: a request waits for it, and what is read apart may have changed
CLAIM = """
UPDATE sessions_app_chatsession
SET state = 'running',
    attempt = attempt + 1,
    workers_lost = workers_lost + CASE WHEN state = 'running' THEN 1 ELSE 0 END,
    worker = %(worker)s,
    lease_expires_at = %(lease_end)s,
    started_at = COALESCE(started_at, %(now)s),
    fingerprint = CASE WHEN next_index <= 1 THEN %(fingerprint)s ELSE fingerprint END
WHERE id = {chosen} AND {claimable}
RETURNING *
"""
#: the session's event with the claim, in the same statement; SQLite allows no insert inside a query
CLAIM_ON_POSTGRESQL = f"""
WITH claimed AS ({CLAIM}),
noted AS (
    INSERT INTO sessions_app_sessionevent (session_id, kind, at, attempt, worker)
    SELECT id, 'claimed', %(now)s, attempt, worker FROM claimed
)
SELECT * FROM claimed
"""  # noqa: S608  (put together from constants)


def claim(session_id: str, *, worker: str, fingerprint: dict[str, Any] | None = None) -> ChatSession | None:
    """Take the session for this worker, with a new fencing token and a lease; None when it is not to be had.

    A session that is queued, or running with a lapsed lease, can be claimed; of two claims at once one gets it. One
    that has lost ``SESSION_MAX_ATTEMPTS`` workers is left to the sweeper, which fails it. ``fingerprint`` is noted
    while nothing is said: what a later attempt must have in common with this one.
    """
    return _claim("%(id)s", id=session_id, worker=worker, fingerprint=fingerprint)


def claim_next(
    *, worker: str, fingerprint: dict[str, Any] | None = None, slot: Slot = Slot.COMMON
) -> ChatSession | None:
    """Take the session whose turn it is, as ``claim`` takes a certain one; None when none waits for such a ``slot``."""
    return _claim(f"({next_session(slot)})", worker=worker, fingerprint=fingerprint)


def _claim(chosen: str, *, worker: str, fingerprint: dict[str, Any] | None, **values: Any) -> ChatSession | None:
    now = timezone.now()
    adapt = connection.ops.adapt_datetimefield_value
    values |= {
        "now": adapt(now),
        "worker": worker,
        "lease_end": adapt(lease_end(now)),
        "fingerprint": connection.ops.adapt_json_value(fingerprint or {}, None),
        "max_attempts": settings.SESSION_MAX_ATTEMPTS,
    }
    places = {"chosen": chosen, "claimable": CLAIMABLE}
    if connection.vendor == "postgresql":
        return next(iter(ChatSession.objects.raw(CLAIM_ON_POSTGRESQL.format(**places), values)), None)
    with transaction.atomic():
        session = next(iter(ChatSession.objects.raw(CLAIM.format(**places), values)), None)
        if session is not None:
            _note(session, SessionEvent.Kind.CLAIMED, now)
    return session


def _note(session: ChatSession, kind: SessionEvent.Kind, at: datetime.datetime) -> None:
    SessionEvent.objects.create(session=session, kind=kind, at=at, attempt=session.attempt, worker=session.worker)


def cancel_requested_among(session_ids: Iterable[str]) -> set[str]:
    """Those of the running sessions that somebody wants cancelled."""
    wanted = ChatSession.objects.running().filter(pk__in=list(session_ids), cancel_requested_at__isnull=False)
    return set(wanted.values_list("pk", flat=True))


def release(session_id: str, attempt: int, *, only_lapsed: bool = False) -> bool:
    """Hand a running session back with its chunks, for another worker to go on at once; False when it is lost.

    With ``only_lapsed`` it is taken back from a silent worker, and left alone when that one has renewed its lease. A
    session that somebody wants cancelled ends here.
    """
    with transaction.atomic():
        held = ChatSession.objects.lapsed() if only_lapsed else ChatSession.objects.all()
        # A worker that was frozen in a transaction keeps its row locked: it must not hold up the sweep of all others.
        locked = held.select_for_update(skip_locked=only_lapsed)
        session = locked.held_by(attempt).filter(pk=session_id).first()
        if session is None:
            return False
        if session.cancel_requested_at is not None:
            _close_locked(session, Closing(reason="cancelled", completion_tokens=_tokens_committed(session)))
            return True
        now = timezone.now()
        _note(session, SessionEvent.Kind.LEASE_EXPIRED if only_lapsed else SessionEvent.Kind.RELEASED, now)
        session.state = ChatSession.State.QUEUED
        session.lease_expires_at = None
        session.enqueued_at = now
        session.worker = ""
        session.workers_lost += only_lapsed
        session.save(update_fields=["state", "lease_expires_at", "enqueued_at", "worker", "workers_lost"])
        transaction.on_commit(functools.partial(queue.send, session_id))
    return True


def request_cancel(session_id: str) -> ChatSession:
    """Cancel: at once when nobody runs it, else by a mark that its worker sees at its next commit. Idempotent.

    Raises ``ChatSession.DoesNotExist``.
    """
    with transaction.atomic():
        session = ChatSession.objects.select_for_update().get(pk=session_id)
        if session.state == ChatSession.State.RUNNING and not _has_lapsed(session):
            if session.cancel_requested_at is None:
                session.cancel_requested_at = timezone.now()
                session.save(update_fields=["cancel_requested_at"])
        elif not session.is_finished:
            _close_locked(session, Closing(reason="cancelled", completion_tokens=_tokens_committed(session)))
    return session


def fail(session_id: str, *, error: dict[str, Any], status: int = 500) -> bool:
    """End a session that nobody runs with an error, keeping what it has; False when somebody does, or it has ended."""
    with transaction.atomic():
        session = ChatSession.objects.select_for_update().claimable().filter(pk=session_id).first()
        if session is None:
            return False
        _close_locked(session, Closing(error=error, error_status=status, completion_tokens=_tokens_committed(session)))
    return True


def _close_locked(session: ChatSession, closing: Closing) -> None:
    """Close a session whose row this transaction has locked and that no worker holds."""
    chunks = [
        Chunk(session=session, index=session.next_index + offset, delta=delta)
        for offset, delta in enumerate(closing.deltas())
    ]
    Chunk.objects.bulk_create(chunks)
    session.next_index += len(chunks)
    # A worker that was only slow still has the old number: it must not write behind the end.
    session.attempt += 1
    for name, value in closing.columns().items():
        setattr(session, name, value)
    session.save(update_fields=["next_index", "attempt", *closing.columns()])
    told = Wakeup(
        session.pk,
        chunks[-1].index,
        tuple(StreamChunk(chunk.index, chunk.delta) for chunk in chunks),
        session.created_at,
    )
    transaction.on_commit(functools.partial(wakeups.publish, [told]))
    transaction.on_commit(functools.partial(metrics.count_end, closing.state, closing.reason))


def _tokens_committed(session: ChatSession) -> int:
    return len(Chunk.objects.token_ids_of(session.pk))


def _has_lapsed(session: ChatSession) -> bool:
    return session.lease_expires_at is not None and session.lease_expires_at < timezone.now()
