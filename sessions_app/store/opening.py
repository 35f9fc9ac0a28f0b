"""Open sessions: write their rows, their media and first chunks together, then notify the workers."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.conf import settings
from django.db import IntegrityError, models, transaction
from django.utils import timezone

from sessions_app import metrics, privacy, shares, turns
from sessions_app.deltas import START
from sessions_app.errors import ApiError, CallerQueueFull, QueueFull
from sessions_app.models import ChatSession, Chunk, Presence, SessionMedia, new_session_id
from sessions_app.store import finding, queue, sql

_REQUEST = ChatSession._meta.get_field("request")
_DATA = SessionMedia._meta.get_field("data")


@dataclasses.dataclass(frozen=True, slots=True)
class NewMedia:
    """An image or video to store with a new session."""

    kind: str
    content_type: str
    sha256: str
    data: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """A session to open.

    A session that ``needs_listener`` is cancelled after ``CANCEL_AFTER_DISCONNECT_SECONDS`` without a listener, or
    after ``CANCEL_UNNAMED_AFTER_SECONDS`` when the caller gave no ``session_id``. For any other session the first of
    these limits applies, and only after a listener has come and left. ``caller`` identifies the caller in the form that
    ``callers`` writes; with "" no per-caller limit applies.
    """

    session_id: str | None = None
    request: dict[str, Any]
    request_digest: str
    model: str
    origin: str = "chat"
    request_id: str = ""
    caller: str = ""
    media: Sequence[NewMedia] = ()
    needs_listener: bool = True

    @property
    def media_bytes(self) -> int:
        return sum(len(item.data) for item in self.media)


#: the session of the id, and whether it is new
Opened = tuple[ChatSession, bool]


def open_session(**columns: Any) -> Opened:
    """The session of this id, and whether it is new. The arguments are those of ``NewSession``.

    Raises as ``finding.find_same``, ``QueueFull`` and ``CallerQueueFull``, and ``DataKeyMissing`` if sessions of the
    ``origin`` are private.
    """
    [opened] = open_sessions([NewSession(**columns)])
    if isinstance(opened, ApiError):
        raise opened
    return opened


def open_sessions(asked: Sequence[NewSession]) -> list[Opened | ApiError]:
    """Open the sessions of many requests together. For each, what ``open_session`` returns or raises.

    Counting and inserting take as many statements as for one session; each id that a client has named is looked up
    alone. When this raises, none is opened: one of them may be the reason, so ask again for each alone. One message is
    sent to the workers after the commit: the worker that gets it claims as many as it has room for.
    """
    results: dict[int, Opened | ApiError] = {}
    new: dict[int, tuple[ChatSession, list[models.Model]]] = {}
    waiting = Counter(turns.queued_by_caller())
    for number, item in enumerate(asked):
        try:
            known = item.session_id and finding.find_same(item.session_id, item.request_digest)
            if known:
                results[number] = known, False
                continue
            _check_queue(waiting, item)
            # Each with a time of its own: a caller's sessions are run in the order of these times.
            new[number] = _rows_of(item, timezone.now())
        except ApiError as exc:
            results[number] = exc
        else:
            waiting[item.caller, item.origin] += 1
    try:
        sql.insert_together([row for _, rows in new.values() for row in rows])
    except IntegrityError:
        if len(new) > 1:
            raise
        # Another process may have opened it at the same time. Any other violation is raised again.
        [(number, (session, _))] = new.items()
        try:
            known = finding.find_same(session.pk, asked[number].request_digest)
        except ApiError as exc:
            results[number] = exc
        else:
            if known is None:
                raise
            results[number] = known, False
    else:
        for number, (session, _) in new.items():
            session.request = asked[number].request
            results[number] = session, True
        if new:
            transaction.on_commit(functools.partial(queue.send, next(iter(new.values()))[0].pk))
            transaction.on_commit(functools.partial(_count, [asked[number] for number in new]))
    return [results[number] for number in range(len(asked))]


def _rows_of(item: NewSession, now: datetime.datetime) -> tuple[ChatSession, list[models.Model]]:
    """The new session, and its rows in all tables. Raises ``DataKeyMissing``."""
    session = ChatSession(
        id=item.session_id or new_session_id(),
        request=item.request,
        request_digest=item.request_digest,
        model=item.model,
        origin=item.origin,
        request_id=item.request_id,
        caller=item.caller,
        # Code that opens a session without a listener stores its id, so the session counts as named.
        is_named=item.session_id is not None or not item.needs_listener,
        created_at=now,
        enqueued_at=now,
        next_index=1,
    )
    stored = [
        SessionMedia(
            session=session,
            position=position,
            kind=media.kind,
            content_type=media.content_type,
            sha256=media.sha256,
            size=len(media.data),
            data=media.data,
        )
        for position, media in enumerate(item.media)
    ]
    if privacy.is_sealed(item.origin):
        session.request = _REQUEST.seal(item.request)
        for row in stored:
            # The digest of a picture would tell who has it whether this is the same one.
            row.data, row.sha256 = _DATA.seal(row.data), ""
    presence = [Presence(session=session, seen_at=now)] if item.needs_listener else []
    return session, [session, Chunk(session=session, index=0, delta=START, created_at=now), *stored, *presence]


def _check_queue(waiting: Mapping[tuple[str, str], int], item: NewSession) -> None:
    """Raise ``QueueFull`` or ``CallerQueueFull``. ``waiting`` counts the queued sessions of each caller and origin."""
    total = sum(waiting.values())
    if total >= settings.MAX_QUEUED_SESSIONS:
        raise QueueFull
    # Chats and cards have separate shares, as they have separate turns.
    held = waiting.get((item.caller, item.origin), 0)
    fixed = settings.MAX_QUEUED_SESSIONS_PER_CALLER
    if item.caller and held >= shares.caller_limit(settings.MAX_QUEUED_SESSIONS, in_use=total, fixed=fixed):
        raise CallerQueueFull(held)


def _count(opened: Iterable[NewSession]) -> None:
    for item in opened:
        metrics.count_opened(item.origin, [media.kind for media in item.media])
