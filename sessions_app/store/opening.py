"""Open a session: write its row, its media and its first chunk together, then send it to the workers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from sessions_app import metrics, privacy, shares, turns
from sessions_app.deltas import START
from sessions_app.errors import CallerQueueFull, QueueFull
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


def open_session(
    *,
    session_id: str | None = None,
    request: dict[str, Any],
    request_digest: str,
    model: str,
    origin: str = "chat",
    request_id: str = "",
    caller: str = "",
    media: Sequence[NewMedia] = (),
    needs_listener: bool = True,
) -> tuple[ChatSession, bool]:
    """The session of this id, and whether it is new. A new one is sent to the workers after the commit.

    A session that ``needs_listener`` is cancelled after ``CANCEL_AFTER_DISCONNECT_SECONDS`` without a listener, or
    after ``CANCEL_UNNAMED_AFTER_SECONDS`` when the caller gave no ``session_id``. For any other session the first of
    these limits applies, and only after a listener has come and left. ``caller`` identifies the caller in the form that
    ``callers`` writes; with "" no per-caller limit applies.

    Raises as ``finding.find_same``, ``QueueFull`` and ``CallerQueueFull``, and ``DataKeyMissing`` if sessions of
    ``origin`` are private.
    """
    if session_id is not None and (known := finding.find_same(session_id, request_digest)) is not None:
        return known, False
    _check_queue(caller, origin)
    now = timezone.now()
    session = ChatSession(
        id=session_id or new_session_id(),
        request=request,
        request_digest=request_digest,
        model=model,
        origin=origin,
        request_id=request_id,
        caller=caller,
        # Code that opens a session without a listener stores its id, so the session counts as named.
        is_named=session_id is not None or not needs_listener,
        created_at=now,
        enqueued_at=now,
        next_index=1,
    )
    stored = [
        SessionMedia(
            session=session,
            position=position,
            kind=item.kind,
            content_type=item.content_type,
            sha256=item.sha256,
            size=len(item.data),
            data=item.data,
        )
        for position, item in enumerate(media)
    ]
    if privacy.is_sealed(origin):
        session.request = _REQUEST.seal(request)
        for row in stored:
            # The digest of a picture would tell who has it whether this is the same one.
            row.data, row.sha256 = _DATA.seal(row.data), ""
    presence = [Presence(session=session, seen_at=now)] if needs_listener else []
    try:
        sql.insert_together([session, Chunk(session=session, index=0, delta=START, created_at=now), *stored, *presence])
    except IntegrityError:
        # Another process may have opened it at the same time. Any other violation is raised again.
        known = finding.find_same(session.pk, request_digest)
        if known is None:
            raise
        return known, False
    session.request = request
    transaction.on_commit(functools.partial(queue.send, session.pk))
    transaction.on_commit(functools.partial(metrics.count_opened, origin, [item.kind for item in media]))
    return session, True


def _check_queue(caller: str, origin: str) -> None:
    waiting = turns.queued_by_caller()
    total = sum(waiting.values())
    if total >= settings.MAX_QUEUED_SESSIONS:
        raise QueueFull
    # Chats and cards have separate shares, as they have separate turns.
    held = waiting.get((caller, origin), 0)
    fixed = settings.MAX_QUEUED_SESSIONS_PER_CALLER
    if caller and held >= shares.caller_limit(settings.MAX_QUEUED_SESSIONS, in_use=total, fixed=fixed):
        raise CallerQueueFull(held)
