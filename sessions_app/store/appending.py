"""Append to sessions: the pieces of many in one commit, each under the fencing rule.

An append names its attempt and the index that it expects, and the UPDATE is conditional on both. When no row changes,
the writer is fenced: another worker holds the session, or it has ended. Nothing of that append is written then.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
from collections.abc import Iterable, Sequence
from typing import Any, cast

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Coalesce
from django.utils import timezone

from sessions_app import metrics, privacy, tracing, wakeups
from sessions_app.deltas import ContentDelta, StoredDelta
from sessions_app.encryption.fields import OpenedJSONField
from sessions_app.encryption.keyring import DataKeyMissing, has_keys
from sessions_app.errors import ApiError
from sessions_app.models import ChatSession, ChatSessionQuerySet, Chunk
from sessions_app.states import SessionState
from sessions_app.storable import MAX_COUNT, storable_delta, storable_error, storable_token_ids
from sessions_app.store import sql
from sessions_app.wakeups import StreamChunk, Wakeup

_DELTA = cast("OpenedJSONField", Chunk._meta.get_field("delta"))
_TOKEN_IDS = cast("OpenedJSONField", Chunk._meta.get_field("token_ids"))
_ERROR = ChatSession._meta.get_field("error")


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """A piece of model output, and the token ids that it came from."""

    delta: ContentDelta
    token_ids: Sequence[int] = ()

    def storable(self) -> Piece:
        return Piece(storable_delta(self.delta), storable_token_ids(self.token_ids))


@dataclasses.dataclass(frozen=True, slots=True)
class Closing:
    """How a session ends. With an error it fails; without one it ends for ``reason``."""

    reason: str = "stop"
    #: the finish reason of each answer, where the session gives several; ``reason`` is then the session's
    reasons: tuple[str, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    #: prompt tokens that needed no prefill, because the prefix cache had them
    cached_tokens: int = 0
    error: dict[str, Any] | None = None
    #: HTTP status for a caller that waits for the whole answer
    error_status: int = 500

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens"):
            object.__setattr__(self, name, min(getattr(self, name), MAX_COUNT))
        if self.error is not None:
            object.__setattr__(self, "error", storable_error(self.error))

    @classmethod
    def failed(cls, error: ApiError, *, completion_tokens: int = 0) -> Closing:
        return cls(error=error.as_dict(), error_status=error.status, completion_tokens=completion_tokens)

    @property
    def state(self) -> SessionState:
        if self.error is not None:
            return SessionState.FAILED
        return SessionState.CANCELLED if self.reason == "cancelled" else SessionState.COMPLETED

    def deltas(self) -> list[StoredDelta]:
        """The last chunks of the stream. Exactly one is terminal, the last."""
        if self.error is not None:
            return [{"type": "error", "error": self.error, "status": self.error_status}]
        finishes: list[StoredDelta] = [
            {"type": "finish", "choice": choice, "reason": reason} for choice, reason in enumerate(self.reasons)
        ]
        return [
            *(finishes or [{"type": "finish", "reason": self.reason}]),
            {
                "type": "usage",
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": self.completion_tokens,
                "reasoning_tokens": self.reasoning_tokens,
                "cached_tokens": self.cached_tokens,
            },
            {"type": "end"},
        ]

    def columns(self) -> dict[str, Any]:
        """What the end changes in the session's row."""
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
    #: whether its rows are encrypted: see ``sessions_app.privacy``
    is_sealed: bool = False

    @property
    def tokens(self) -> int:
        return sum(len(piece.token_ids) for piece in self.pieces)

    @property
    def deltas(self) -> list[StoredDelta]:
        """The deltas of all its chunks, the closing ones included."""
        return [*(piece.delta for piece in self.pieces), *(self.closing.deltas() if self.closing is not None else ())]


def append(appends: Iterable[Append]) -> set[str]:
    """Commit the appends of many sessions together, each append atomically, and notify the listeners.

    Returns the ids of the sessions whose writer is fenced. Two transactions that wait for each other's locks are a
    deadlock: the database ends one of them with ``OperationalError``, and its writer tries again.
    """
    now = timezone.now()
    items = sorted(map(_storable, appends), key=lambda item: item.session_id)
    ends = [item for item in items if item.closing is not None]
    is_one_statement = connection.vendor == "postgresql" and not ends
    with contextlib.nullcontext() if is_one_statement else transaction.atomic():
        held = _advance([item for item in items if item.closing is None], now)
        if closed := _close(ends, ChatSession.objects.running(), now):
            held.update(ChatSession.objects.filter(pk__in=closed).values_list("pk", "created_at"))
        _notify_on_commit(items, held)
    return {item.session_id for item in items} - held.keys()


def close_unheld(session: ChatSession, closing: Closing) -> None:
    """End a session that no worker holds, and update ``session``. The caller's transaction has locked its row.

    The attempt is raised: a worker whose lease expired while it was slow is fenced from now on.
    """
    now = timezone.now()
    is_sealed = privacy.is_sealed(session.origin)
    item = Append(session.pk, session.attempt, session.next_index, closing=closing, is_sealed=is_sealed)
    _close([item], ChatSession.objects.unfinished(), now, attempt=F("attempt") + 1)
    _notify_on_commit([item], {session.pk: session.created_at})
    transaction.on_commit(functools.partial(metrics.count_end, closing.state, closing.reason))
    span = functools.partial(tracing.record_session, session.pk, attributes=span_attributes(session, closing))
    transaction.on_commit(functools.partial(span, start=session.created_at.timestamp(), end=now.timestamp()))
    session.refresh_from_db(fields=["attempt", "next_index", *closing.columns()])


def span_attributes(session: ChatSession, closing: Closing) -> dict[str, str | int]:
    """What the root span of a session says, which ``closing`` ends. ``session`` is as it was before that."""
    return {
        "model": session.model,
        "origin": session.origin,
        "state": closing.state,
        "finish_reason": closing.reason,
        "attempts": session.attempt,
        "prompt_tokens": closing.prompt_tokens,
        "completion_tokens": closing.completion_tokens,
    }


def lease_end(now: datetime.datetime) -> datetime.datetime:
    return now + datetime.timedelta(seconds=settings.SESSION_LEASE_SECONDS)


def _rows(item: Append) -> Iterable[tuple[Any, Sequence[int]]]:
    """Delta and token ids of each of its chunks as they are stored. Raises ``DataKeyMissing`` for private pieces."""
    closing = item.closing.deltas() if item.closing is not None else ()
    if not item.is_sealed:
        return [*((piece.delta, piece.token_ids) for piece in item.pieces), *((delta, ()) for delta in closing)]
    return [
        *((_DELTA.seal(piece.delta), _TOKEN_IDS.seal(list(piece.token_ids))) for piece in item.pieces),
        *((_private_end(delta), ()) for delta in closing),
    ]


def _private_end(delta: StoredDelta) -> Any:
    """A session must be able to end without a data key. Its error then says so; other closing chunks hold no text."""
    if delta["type"] == "error" and not has_keys():
        return {**delta, "error": DataKeyMissing().as_dict()}
    return _DELTA.seal(delta)


def _private_error(error: dict[str, Any] | None) -> Any:
    if error is None:
        return None
    return _ERROR.seal(error) if has_keys() else DataKeyMissing().as_dict()


def _storable(item: Append) -> Append:
    return dataclasses.replace(item, pieces=tuple(piece.storable() for piece in item.pieces)) if item.pieces else item


def _advance(items: Sequence[Append], now: datetime.datetime) -> dict[str, datetime.datetime]:
    """Write the pieces of running sessions and renew their leases.

    Returns the sessions that their writer still holds, with the time each was opened.
    """
    if not items:
        return {}
    is_written = connection.vendor == "postgresql"
    held = sql.advance(
        [
            {
                "session_id": item.session_id,
                "held_attempt": item.attempt,
                "expected_index": item.index,
                "count": len(item.pieces),
                "tokens": item.tokens,
                "pieces": list(_rows(item)) if is_written else [],
            }
            for item in items
        ],
        now=now,
        lease_end=lease_end(now),
    )
    if not is_written:
        _write_chunks([item for item in items if item.session_id in held], now)
    return held


def _close(items: Iterable[Append], among: ChatSessionQuerySet, now: datetime.datetime, **columns: Any) -> list[str]:
    """Of the sessions in the queryset ``among``, end those in ``items``, and set further ``columns``.

    Each gets its last pieces and the closing chunks. Returns the ids of the sessions that were ended; those whose
    writer is fenced are not among them.
    """
    closed: list[Append] = []
    for item in items:
        if item.closing is None:
            continue
        changes = {**item.closing.columns(), **columns, "next_index": F("next_index") + len(item.deltas)}
        if item.is_sealed:
            changes["error"] = _private_error(item.closing.error)
        if item.closing.error is not None and not item.closing.completion_tokens:
            # The failing writer did not supply a total: keep the count of the tokens committed so far.
            changes["completion_tokens"] = Coalesce("completion_tokens", 0) + item.tokens
        if item.tokens:
            changes["first_token_at"] = Coalesce("first_token_at", now)
        if among.filter(pk=item.session_id, attempt=item.attempt, next_index=item.index).update(**changes):
            closed.append(item)
    if closed:
        _write_chunks(closed, now)
    return [item.session_id for item in closed]


def _write_chunks(items: Iterable[Append], now: datetime.datetime) -> None:
    Chunk.objects.bulk_create([chunk for item in items for chunk in _chunks_of(item, now)])


def _chunks_of(item: Append, now: datetime.datetime) -> list[Chunk]:
    return [
        Chunk(
            session_id=item.session_id,
            index=item.index + offset,
            delta=delta,
            token_ids=list(token_ids),
            created_at=now,
        )
        for offset, (delta, token_ids) in enumerate(_rows(item))
    ]


def _notify_on_commit(items: Iterable[Append], held: dict[str, datetime.datetime]) -> None:
    notified = [_wakeup(item, held[item.session_id]) for item in items if item.session_id in held and item.deltas]
    if notified:
        transaction.on_commit(functools.partial(wakeups.publish, notified))


def _wakeup(item: Append, opened_at: datetime.datetime) -> Wakeup:
    chunks = tuple(StreamChunk(item.index + offset, delta) for offset, delta in enumerate(item.deltas))
    return Wakeup(item.session_id, chunks[-1].index, chunks, opened_at)
