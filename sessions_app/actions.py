"""Everything that moves a session that is open: claim, append, close, release, cancel. Each is one transaction.

The fencing rule lives here. A claim raises ``attempt``; an append names the attempt it writes for and the index it
expects, and its first statement is an UPDATE conditional on both. No row changed means that the writer has lost the
session, and nothing of it is written.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Iterable, Sequence
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Coalesce
from django.utils import timezone

from sessions_app import queue, wakeups
from sessions_app.models import ChatSession, Chunk, Delta
from sessions_app.wakeups import StreamChunk, Wakeup

#: ``held_by`` and an update for many sessions at once, written out: it runs at every commit, beside a model that wants
#: the same interpreter, and an update for each session took more of it than all else that the writer does
ADVANCE = """
WITH item (session_id, held_attempt, expected_index, pieces, has_tokens) AS (VALUES {values})
UPDATE sessions_app_chatsession
SET next_index = next_index + item.pieces,
    lease_expires_at = %s,
    first_token_at = CASE WHEN item.has_tokens = 1 THEN COALESCE(first_token_at, %s) ELSE first_token_at END
FROM item
WHERE id = item.session_id AND state = 'running' AND attempt = item.held_attempt AND next_index = item.expected_index
RETURNING id
"""

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
WHERE id = %(id)s
    AND (state = 'queued' OR (state = 'running' AND lease_expires_at < %(now)s))
    AND workers_lost + CASE WHEN state = 'running' THEN 1 ELSE 0 END < %(max_attempts)s
RETURNING *
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """A delta and the tokens it was made of."""

    delta: Delta
    token_ids: Sequence[int] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Closing:
    """How a session ends. With an error it fails; without one it ends for ``reason``."""

    reason: str = "stop"
    #: the reason of each answer, where the session gives several at once; ``reason`` stands for all of them then
    reasons: tuple[str, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    error: dict[str, Any] | None = None
    #: HTTP status for a caller who waited for the whole answer
    error_status: int = 500

    @property
    def state(self) -> ChatSession.State:
        if self.error is not None:
            return ChatSession.State.FAILED
        return ChatSession.State.CANCELLED if self.reason == "cancelled" else ChatSession.State.COMPLETED

    def deltas(self) -> list[Delta]:
        """The last chunks of the stream: exactly one of them is terminal."""
        if self.error is not None:
            return [{"type": "error", "error": self.error, "status": self.error_status}]
        finishes: list[Delta] = [
            {"type": "finish", "choice": choice, "reason": reason} for choice, reason in enumerate(self.reasons)
        ]
        return [
            *(finishes or [{"type": "finish", "reason": self.reason}]),
            {
                "type": "usage",
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": self.completion_tokens,
                "reasoning_tokens": self.reasoning_tokens,
            },
            {"type": "end"},
        ]

    def columns(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "finish_reason": "" if self.error is not None else self.reason,
            "error": self.error,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "finished_at": timezone.now(),
            "lease_expires_at": None,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Append:
    """What one writer wants committed for one session. Without pieces it only renews the lease."""

    session_id: str
    attempt: int
    #: the index that the first piece must get
    index: int
    pieces: Sequence[Piece] = ()
    closing: Closing | None = None

    @property
    def has_tokens(self) -> bool:
        return any(piece.token_ids for piece in self.pieces)


def claim(session_id: str, *, worker: str, fingerprint: dict[str, Any] | None = None) -> ChatSession | None:
    """Take the session for this worker, with a new fencing token and a lease; None when it is not to be had.

    A session that is queued, or running with a lapsed lease, can be claimed; of two claims at once one gets it. One
    that has lost ``SESSION_MAX_ATTEMPTS`` workers is left to the sweeper, which fails it. ``fingerprint`` is noted
    while nothing is said: what a later attempt must have in common with this one.
    """
    now = timezone.now()
    adapt = connection.ops.adapt_datetimefield_value
    values = {
        "id": session_id,
        "now": adapt(now),
        "worker": worker,
        "lease_end": adapt(_lease_end(now)),
        "fingerprint": connection.ops.adapt_json_value(fingerprint or {}, None),
        "max_attempts": settings.SESSION_MAX_ATTEMPTS,
    }
    return next(iter(ChatSession.objects.raw(CLAIM, values)), None)


def append(appends: Iterable[Append]) -> set[str]:
    """Commit the appends of many sessions together, each one whole or not at all, and tell the listeners.

    Returns the sessions that their writer has lost: another worker owns them, or they were closed meanwhile. Should the
    locks of two transactions ever cross, the database ends one of them, and its writer tries again.
    """
    now = timezone.now()
    items = sorted(appends, key=lambda item: item.session_id)
    lost: set[str] = set()
    chunks: list[Chunk] = []
    told: list[Wakeup] = []
    with transaction.atomic():
        held = _advance([item for item in items if item.closing is None], now)
        for item in items:
            if item.closing is not None and _close(item, item.closing, now):
                held.add(item.session_id)
            if item.session_id not in held:
                lost.add(item.session_id)
            elif written := _chunks_of(item, now):
                chunks += written
                told.append(_wakeup(item.session_id, written))
        Chunk.objects.bulk_create(chunks)
        if told:
            transaction.on_commit(functools.partial(wakeups.publish, told))
    return lost


def _advance(items: Sequence[Append], now: datetime.datetime) -> set[str]:
    """Move the sessions' rows by their pieces, and renew the leases; the ids of those that their writer still holds."""
    if not items:
        return set()
    adapt = connection.ops.adapt_datetimefield_value
    values = [
        value
        for item in items
        for value in (item.session_id, item.attempt, item.index, len(item.pieces), int(item.has_tokens))
    ]
    statement = ADVANCE.format(values=", ".join(["(%s, %s, %s, %s, %s)"] * len(items)))
    with connection.cursor() as cursor:
        cursor.execute(statement, [*values, adapt(_lease_end(now)), adapt(now)])
        return {session_id for (session_id,) in cursor.fetchall()}


def _close(item: Append, closing: Closing, now: datetime.datetime) -> bool:
    """Move the session's row to its end, unless the writer has lost it."""
    columns = closing.columns()
    if item.has_tokens:
        columns["first_token_at"] = Coalesce("first_token_at", now)
    held = ChatSession.objects.held_by(item.attempt).filter(pk=item.session_id, next_index=item.index)
    count = len(item.pieces) + len(closing.deltas())
    return bool(held.update(next_index=F("next_index") + count, **columns))


def _chunks_of(item: Append, now: datetime.datetime) -> list[Chunk]:
    ends = [] if item.closing is None else [Piece(delta) for delta in item.closing.deltas()]
    return [
        Chunk(
            session_id=item.session_id,
            index=item.index + offset,
            delta=piece.delta,
            token_ids=list(piece.token_ids),
            created_at=now,
        )
        for offset, piece in enumerate([*item.pieces, *ends])
    ]


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
        session = held.select_for_update().held_by(attempt).filter(pk=session_id).first()
        if session is None:
            return False
        if session.cancel_requested_at is not None:
            _close_locked(session, Closing(reason="cancelled", completion_tokens=_tokens_committed(session)))
            return True
        session.state = ChatSession.State.QUEUED
        session.lease_expires_at = None
        session.enqueued_at = timezone.now()
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
    transaction.on_commit(functools.partial(wakeups.publish, [_wakeup(session.pk, chunks)]))


def _tokens_committed(session: ChatSession) -> int:
    return len(Chunk.objects.token_ids_of(session.pk))


def _wakeup(session_id: str, chunks: Sequence[Chunk]) -> Wakeup:
    return Wakeup(session_id, chunks[-1].index, tuple(StreamChunk(chunk.index, chunk.delta) for chunk in chunks))


def _has_lapsed(session: ChatSession) -> bool:
    return session.lease_expires_at is not None and session.lease_expires_at < timezone.now()


def _lease_end(now: datetime.datetime) -> datetime.datetime:
    return now + datetime.timedelta(seconds=settings.SESSION_LEASE_SECONDS)
