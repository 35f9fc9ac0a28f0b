"""Sessions as one JSON document, streamed: a session's log may be larger than the memory of a web process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from sessions_app.db import in_db
from sessions_app.models import ChatSession, Chunk

#: maximum number of sessions in one document
MAX_SESSIONS = 1000
PAGE_CHUNKS = 500

#: the columns of every session that users with the permission to view sessions may see
FIGURES = (
    *("id", "state", "origin", "model", "request_id", "caller", "attempt", "workers_lost", "worker", "finish_reason"),
    *("prompt_tokens", "completion_tokens", "created_at", "enqueued_at", "started_at", "first_token_at"),
    *("cancel_requested_at", "finished_at", "expired_at"),
)
EVENT_COLUMNS = ("kind", "at", "attempt", "worker", "index", "other_session")
MEDIA_COLUMNS = ("position", "kind", "content_type", "sha256", "size")
CHUNK_COLUMNS = ("index", "delta", "token_ids", "created_at")


async def json_of(session_ids: Sequence[str], readable_origins: Collection[str]) -> AsyncIterator[bytes]:
    """A list of objects, one for each session that is still there.

    One whose origin is readable comes with its request, error, chunks, and what there is to know of its media but
    their bytes; another with its figures and ``"withheld": true``.
    """
    separator = b"[\n"
    for session_id in session_ids:
        head = await in_db(_read_head, session_id, readable_origins)
        if head is None:
            continue
        if "withheld" in head:
            yield separator + _encoded(head)
        else:
            # The object is left open for its chunks.
            yield separator + _encoded(head)[:-1] + b', "chunks": ['
            async for page in _chunks_of(session_id):
                yield page
            yield b"]}"
        separator = b",\n"
    yield b"[]\n" if separator == b"[\n" else b"\n]\n"


async def _chunks_of(session_id: str) -> AsyncIterator[bytes]:
    after = -1
    while page := await in_db(_read_chunks, session_id, after):
        rows = b", ".join(map(_encoded, page))
        yield rows if after < 0 else b", " + rows
        after = page[-1]["index"]


def _read_head(session_id: str, readable_origins: Collection[str]) -> dict[str, Any] | None:
    sessions = ChatSession.objects.filter(pk=session_id)
    head: dict[str, Any] | None = sessions.values(*FIGURES).first()
    if head is None:
        return None
    session = ChatSession(pk=session_id)
    head["events"] = list(session.events.values(*EVENT_COLUMNS))
    if head["origin"] not in readable_origins:
        return {**head, "withheld": True}
    head |= sessions.values("request", "error").get()
    return {**head, "media": list(session.media.values(*MEDIA_COLUMNS))}


def _read_chunks(session_id: str, after: int) -> list[dict[str, Any]]:
    return list(Chunk.objects.after(session_id, after).values(*CHUNK_COLUMNS)[:PAGE_CHUNKS])


def _encoded(value: Any) -> bytes:
    # In ASCII: a stored text may hold half a character.
    return json.dumps(value, cls=DjangoJSONEncoder).encode()
