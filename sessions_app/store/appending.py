"""Appending to sessions: the pieces of many in one commit, each behind the fencing rule.

An append names the attempt it writes for and the index it expects, and an UPDATE is conditional on both. No row changed
means that the writer has lost the session, and nothing of it is written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import json
from collections.abc import Iterable, Sequence
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Coalesce
from django.utils import timezone

from sessions_app import wakeups
from sessions_app.models import ChatSession, Chunk, Delta, SessionState
from sessions_app.storable import MAX_COUNT, storable_delta, storable_error, storable_token_ids
from sessions_app.wakeups import StreamChunk, Wakeup

# The statements are written out, and each takes its sessions as one text of JSON: they run at every commit, beside a
# model that wants the same interpreter. An update for each session took more of it than all else that the writer does.

#: ``held_by`` and an update for many sessions at once
ADVANCE = """
UPDATE sessions_app_chatsession
SET next_index = next_index + item.count,
    lease_expires_at = %s,
    first_token_at = CASE WHEN item.tokens > 0 THEN COALESCE(first_token_at, %s) ELSE first_token_at END,
    completion_tokens = COALESCE(completion_tokens, 0) + item.tokens
FROM item
WHERE id = item.session_id AND state = 'running' AND attempt = item.held_attempt AND next_index = item.expected_index
RETURNING id, created_at
"""

#: Chunks and all in one statement: there and back once, where a transaction takes four times
ADVANCE_AND_WRITE_ON_POSTGRESQL = f"""
WITH item AS (
    SELECT * FROM jsonb_to_recordset(%s::jsonb) AS item (
        session_id text, held_attempt integer, expected_index integer, count integer, tokens integer, pieces jsonb
    )
),
advanced AS ({ADVANCE}),
written AS (
    INSERT INTO sessions_app_chunk (session_id, index, delta, token_ids, created_at)
    SELECT item.session_id, item.expected_index + piece.number - 1, piece.value -> 0, piece.value -> 1, %s
    FROM item
    JOIN advanced ON advanced.id = item.session_id
    CROSS JOIN jsonb_array_elements(item.pieces) WITH ORDINALITY AS piece (value, number)
)
SELECT id, created_at FROM advanced
"""  # noqa: S608  (put together from constants)

#: ``->>`` would want SQLite 3.38; ``RETURNING`` is content with 3.35
ADVANCE_ON_SQLITE = f"""
WITH item AS (
    SELECT json_extract(value, '$.session_id') AS session_id, json_extract(value, '$.held_attempt') AS held_attempt,
        json_extract(value, '$.expected_index') AS expected_index, json_extract(value, '$.count') AS count,
        json_extract(value, '$.tokens') AS tokens
    FROM json_each(%s)
)
{ADVANCE}
"""  # noqa: S608  (as above)


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """A delta and the tokens it was made of."""

    delta: Delta
    token_ids: Sequence[int] = ()

    def storable(self) -> Piece:
        return Piece(storable_delta(self.delta), storable_token_ids(self.token_ids))


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

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "completion_tokens", "reasoning_tokens"):
            object.__setattr__(self, name, min(getattr(self, name), MAX_COUNT))
        if self.error is not None:
            object.__setattr__(self, "error", storable_error(self.error))

    @property
    def state(self) -> SessionState:
        if self.error is not None:
            return SessionState.FAILED
        return SessionState.CANCELLED if self.reason == "cancelled" else SessionState.COMPLETED

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
    def tokens(self) -> int:
        return sum(len(piece.token_ids) for piece in self.pieces)

    @property
    def deltas(self) -> list[Delta]:
        """Of all its chunks, those that end the session included."""
        return [*(piece.delta for piece in self.pieces), *(self.closing.deltas() if self.closing is not None else ())]


def append(appends: Iterable[Append]) -> set[str]:
    """Commit the appends of many sessions together, each one whole or not at all, and tell the listeners.

    Returns the sessions that their writer has lost: another worker owns them, or they were closed meanwhile. Should the
    locks of two transactions ever cross, the database ends one of them, and its writer tries again.
    """
    now = timezone.now()
    items = sorted(map(_storable, appends), key=lambda item: item.session_id)
    ends = [item for item in items if item.closing is not None]
    is_one_statement = connection.vendor == "postgresql" and not ends
    with contextlib.nullcontext() if is_one_statement else transaction.atomic():
        held = _write([item for item in items if item.closing is None], now)
        closed = [item for item in ends if item.closing is not None and _close(item, item.closing, now)]
        if closed:
            Chunk.objects.bulk_create([chunk for item in closed for chunk in _chunks_of(item, now)])
            ids = [item.session_id for item in closed]
            held.update(ChatSession.objects.filter(pk__in=ids).values_list("pk", "created_at"))
        if told := [_wakeup(item, held[item.session_id]) for item in items if item.session_id in held and item.deltas]:
            transaction.on_commit(functools.partial(wakeups.publish, told))
    return {item.session_id for item in items} - held.keys()


def _storable(item: Append) -> Append:
    return dataclasses.replace(item, pieces=tuple(piece.storable() for piece in item.pieces)) if item.pieces else item


def _write(items: Sequence[Append], now: datetime.datetime) -> dict[str, datetime.datetime]:
    """Write the pieces of running sessions, and renew the leases.

    Returns those that their writer still holds, each with the time at which it was opened.
    """
    if not items:
        return {}
    on_postgresql = connection.vendor == "postgresql"
    rows = [
        {
            "session_id": item.session_id,
            "held_attempt": item.attempt,
            "expected_index": item.index,
            "count": len(item.pieces),
            "tokens": item.tokens,
            "pieces": [(piece.delta, piece.token_ids) for piece in item.pieces] if on_postgresql else [],
        }
        for item in items
    ]
    adapt = connection.ops.adapt_datetimefield_value
    values = [json.dumps(rows), adapt(lease_end(now)), adapt(now)]
    with connection.cursor() as cursor:
        if on_postgresql:
            cursor.execute(ADVANCE_AND_WRITE_ON_POSTGRESQL, [*values, adapt(now)])
        else:
            cursor.execute(ADVANCE_ON_SQLITE, values)
        held = {session_id: _in_utc(opened_at) for session_id, opened_at in cursor.fetchall()}
    if not on_postgresql:
        kept = [item for item in items if item.session_id in held]
        Chunk.objects.bulk_create([chunk for item in kept for chunk in _chunks_of(item, now)])
    return held


def _close(item: Append, closing: Closing, now: datetime.datetime) -> bool:
    """Move the session's row to its end, unless the writer has lost it."""
    columns = closing.columns()
    if item.tokens:
        columns["first_token_at"] = Coalesce("first_token_at", now)
    held = ChatSession.objects.held_by(item.attempt).filter(pk=item.session_id, next_index=item.index)
    return bool(held.update(next_index=F("next_index") + len(item.deltas), **columns))


def _chunks_of(item: Append, now: datetime.datetime) -> list[Chunk]:
    token_ids = [*(piece.token_ids for piece in item.pieces), *[()] * len(item.deltas)]
    return [
        Chunk(
            session_id=item.session_id,
            index=item.index + offset,
            delta=delta,
            token_ids=list(token_ids[offset]),
            created_at=now,
        )
        for offset, delta in enumerate(item.deltas)
    ]


def _in_utc(column: datetime.datetime) -> datetime.datetime:
    """SQLite keeps no time zone: outside of the ORM its times come without the one that they have."""
    return column if timezone.is_aware(column) else column.replace(tzinfo=datetime.UTC)


def _wakeup(item: Append, opened_at: datetime.datetime) -> Wakeup:
    chunks = tuple(StreamChunk(item.index + offset, delta) for offset, delta in enumerate(item.deltas))
    return Wakeup(item.session_id, chunks[-1].index, chunks, opened_at)


def lease_end(now: datetime.datetime) -> datetime.datetime:
    return now + datetime.timedelta(seconds=settings.SESSION_LEASE_SECONDS)
