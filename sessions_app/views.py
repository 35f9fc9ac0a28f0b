"""A session as a stream of server-sent events, in any rendering."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from django.conf import settings
from django.http import StreamingHttpResponse

from sessions_app import sse
from sessions_app.hub import SessionGone, hub
from sessions_app.log_lines import short_id
from sessions_app.models import ChatSession
from sessions_app.wakeups import StreamChunk

log = logging.getLogger(__name__)

#: turns a chunk into the data of its event, or None when this rendering does not show it
Render = Callable[[StreamChunk], str | None]


class TooManyStreams(Exception):
    """``MAX_OPEN_STREAMS`` are open in this process."""


def has_room_for_stream() -> bool:
    """Whether this process may open another."""
    return hub().open_streams < settings.MAX_OPEN_STREAMS


def stream_session(session: ChatSession, *, after: int, render: Render) -> StreamingHttpResponse:
    """The events of the session that follow the index ``after`` (-1: all), up to and with the terminal one.

    The row of ``session`` was read for this request. Raises ``TooManyStreams``.
    """
    if not has_room_for_stream():
        raise TooManyStreams
    response = StreamingHttpResponse(_events(session, after, render), content_type=sse.CONTENT_TYPE)
    response.headers["X-Session-ID"] = session.pk
    response.headers["Cache-Control"] = "no-store, no-transform"
    # nginx holds a response back until its buffer is full, unless told not to.
    response.headers["X-Accel-Buffering"] = "no"
    return response


async def _events(session: ChatSession, after: int, render: Render) -> AsyncIterator[bytes]:
    chunks = hub().follow(
        session.pk,
        after,
        idle_seconds=settings.KEEPALIVE_SECONDS,
        opened_at=session.created_at,
        silent_since=session.silent_since,
    )
    async with contextlib.aclosing(chunks):
        try:
            async for batch in chunks:
                if not batch:
                    yield sse.KEEPALIVE
                    continue
                # One write for the whole batch: an event at a time costs forty times as much in replay.
                events = b"".join(
                    sse.encode_event(data, session_id=session.pk, index=chunk.index)
                    for chunk in batch
                    if (data := render(chunk)) is not None
                )
                if events:
                    yield events
        except SessionGone:
            log.info("session %s expired while it was read", short_id(session.pk))
