"""What the hub reads and writes for all listeners of its process: chunks, last indexes, presence and resumes."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from django.db.models import Count
from django.utils import timezone

from sessions_app.models import ChatSession, Chunk, Presence, SessionEvent
from sessions_app.wakeups import StreamChunk

#: rows that a replay reads at a time
PAGE_CHUNKS = 1000
#: maximum number of resumes in a session's history; a client that reconnects every second must not fill the table
MAX_RESUMES_OF_SESSION = 100


class Resume(NamedTuple):
    """A client came back to the stream of a session, with the chunks up to ``after``."""

    session_id: str
    after: int
    at: datetime.datetime


def read_page(session_id: str, after: int) -> list[StreamChunk]:
    """The next chunks after this index, at most ``PAGE_CHUNKS``."""
    rows = Chunk.objects.after(session_id, after).values_list("index", "delta")[:PAGE_CHUNKS]
    return [StreamChunk(index, delta) for index, delta in rows]


def read_last_indexes(session_ids: Sequence[str]) -> dict[str, int]:
    """The last committed index of each of these sessions that exists and has not expired."""
    rows = ChatSession.objects.filter(pk__in=session_ids, expired_at=None).values_list("pk", "next_index")
    return {session_id: next_index - 1 for session_id, next_index in rows}


def write_presence(session_ids: Sequence[str]) -> None:
    """Note that these sessions have a listener now: one read of those that still exist, and one statement for all.

    The rows are written in the order of the ids, so that two processes never wait for each other's locks.
    """
    existing = ChatSession.objects.filter(pk__in=session_ids, expired_at=None).values_list("pk", flat=True)
    now = timezone.now()
    Presence.objects.bulk_create(
        [Presence(session_id=session_id, seen_at=now) for session_id in sorted(existing)],
        update_conflicts=True,
        unique_fields=["session"],
        update_fields=["seen_at"],
    )


def write_resumes(resumes: Sequence[Resume]) -> None:
    """Add the resumes to the histories of their sessions, up to ``MAX_RESUMES_OF_SESSION`` for each."""
    session_ids = {resume.session_id for resume in resumes}
    existing = set(ChatSession.objects.filter(pk__in=session_ids).values_list("pk", flat=True))
    kind = SessionEvent.Kind.RESUMED
    noted = Counter(
        dict(
            SessionEvent.objects.filter(session_id__in=existing, kind=kind)
            .order_by()
            .values_list("session_id")
            .annotate(count=Count("pk"))
        )
    )
    events = []
    for session_id, after, at in resumes:
        if session_id in existing and noted[session_id] < MAX_RESUMES_OF_SESSION:
            noted[session_id] += 1
            events.append(SessionEvent(session_id=session_id, kind=kind, at=at, index=after))
    SessionEvent.objects.bulk_create(events)
