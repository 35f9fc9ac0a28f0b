"""Opening a session: its row, its media and its first chunk are there together, and then it is sent to the workers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connection, models, transaction
from django.utils import timezone

from sessions_app import metrics, shares, turns
from sessions_app.models import START, ChatSession, Chunk, Presence, SessionMedia, new_session_id
from sessions_app.store import queue


class SessionConflict(Exception):
    """The id belongs to a session that was opened with a different request."""


class QueueFull(Exception):
    """``MAX_QUEUED_SESSIONS`` wait already."""


class CallerQueueFull(Exception):
    """So many sessions of this caller wait already that the rest is left to others; the number is the argument."""


@dataclasses.dataclass(frozen=True, slots=True)
class NewMedia:
    """An image or video to store with a new session."""

    kind: str
    content_type: str
    sha256: str
    data: bytes


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
    """The session of this id, and whether it is new. A new one is sent to the workers when it is committed.

    One that ``needs_listener`` is cancelled when nobody has listened for ``CANCEL_AFTER_DISCONNECT_SECONDS``, or sooner
    where no ``session_id`` names it; another is, once somebody has listened and left. ``caller`` is who asks, as
    ``callers`` writes it; "" counts against nobody's share. Raises ``SessionConflict`` when the id was opened with
    another request, ``QueueFull`` when too many wait and ``CallerQueueFull`` when too many of this caller do.
    """
    if session_id is not None and (session := ChatSession.objects.filter(pk=session_id).first()) is not None:
        return _known(session, request_digest), False
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
        # What needs no listener is noted by whoever has asked for it.
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
    presence = [Presence(session=session, seen_at=now)] if needs_listener else []
    try:
        _insert(session, Chunk(session=session, index=0, delta=START, created_at=now), *stored, *presence)
    except IntegrityError:
        # Another process may have opened it meanwhile; what else is wrong stays so.
        found = ChatSession.objects.filter(pk=session.pk).first()
        if found is None:
            raise
        return _known(found, request_digest), False
    transaction.on_commit(functools.partial(queue.send, session.pk))
    transaction.on_commit(functools.partial(metrics.count_opened, origin, [item.kind for item in media]))
    return session, True


def _check_queue(caller: str, origin: str) -> None:
    waiting = turns.queued_by_caller()
    total = sum(waiting.values())
    if total >= settings.MAX_QUEUED_SESSIONS:
        raise QueueFull
    # Chats and cards apart, as they are claimed: whoever has its share of the one may still ask for the other.
    held = waiting.get((caller, origin), 0)
    fixed = settings.MAX_QUEUED_SESSIONS_PER_CALLER
    if caller and held >= shares.most_for_one(settings.MAX_QUEUED_SESSIONS, in_use=total, fixed=fixed):
        raise CallerQueueFull(held)


def _known(session: ChatSession, request_digest: str) -> ChatSession:
    if session.request_digest != request_digest:
        raise SessionConflict(session.pk)
    return session


def _insert(*rows: models.Model) -> None:
    """All of these or none.

    PostgreSQL takes them in one statement. A transaction would go there and back once for each, and twice for itself,
    while a request waits for its first token.
    """
    if connection.vendor != "postgresql":
        with transaction.atomic():
            for row in rows:
                row.save(force_insert=True)
        return
    inserts: list[str] = []
    values: list[Any] = []
    for row in rows:
        # A number that the database draws is left to it.
        fields = [field for field in row._meta.concrete_fields if getattr(row, field.attname) is not None]
        columns = ", ".join(f'"{field.column}"' for field in fields)
        places = ", ".join(["%s"] * len(fields))
        inserts.append(f'INSERT INTO "{row._meta.db_table}" ({columns}) VALUES ({places})')  # noqa: S608  (names of models)
        values += [field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields]
    *first, last = inserts
    together = ", ".join(f"row_{number} AS ({insert})" for number, insert in enumerate(first))
    with connection.cursor() as cursor:
        # Each sees the others only when the statement has ended, which is when their foreign keys are looked at.
        cursor.execute(f"WITH {together} {last}", values)
