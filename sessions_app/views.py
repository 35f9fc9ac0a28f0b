"""A session as a stream of server-sent events, in any rendering."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence

from django.conf import settings
from django.http import StreamingHttpResponse

from sessions_app import metrics, shares, sse
from sessions_app.errors import SessionExpired
from sessions_app.hub import hub
from sessions_app.log_lines import short_id
from sessions_app.models import ChatSession
from sessions_app.wakeups import StreamChunk

log = logging.getLogger(__name__)

#: turns a chunk into the data of its event; None when this rendering does not show it
Render = Callable[[StreamChunk], str | None]


class TooManyStreams(Exception):
    """As many streams are open in this process as may be, of all callers or of this one."""

    def __init__(self, *, of_caller: int = 0) -> None:
        super().__init__()
        #: number of the caller's open streams, if those are too many; 0 if ``MAX_OPEN_STREAMS`` are open
        self.of_caller = of_caller


def check_room_for_stream(caller: str) -> None:
    """Raises ``TooManyStreams`` unless this process may open another for the caller."""
    total = hub().open_streams
    if total >= settings.MAX_OPEN_STREAMS:
        raise TooManyStreams
    most = shares.caller_limit(settings.MAX_OPEN_STREAMS, in_use=total, fixed=settings.MAX_OPEN_STREAMS_PER_CALLER)
    if (held := hub().open_streams_of(caller)) >= most:
        raise TooManyStreams(of_caller=held)


def stream_session(
    session: ChatSession, *, after: int, render: Render, unreadable: str, removed: str, caller: str
) -> StreamingHttpResponse:
    """The events of the session that follow the index ``after`` (-1: all), up to and including the terminal one.

    A chunk that cannot be rendered ends the stream with the event ``unreadable`` in its place, and the removal of the
    chunks with ``removed``. ``caller`` made the request. Raises ``TooManyStreams``.
    """
    check_room_for_stream(caller)
    events = _events(session, after, render, unreadable, removed, caller)
    response = StreamingHttpResponse(events, content_type=sse.CONTENT_TYPE)
    if after >= 0:
        metrics.resumes.inc()
        hub().note_resume(session.pk, after)
    response.headers["X-Session-ID"] = session.pk
    response.headers["Cache-Control"] = "no-store, no-transform"
    # Without this header nginx holds a response back until its buffer is full.
    response.headers["X-Accel-Buffering"] = "no"
    return response


async def _events(
    session: ChatSession, after: int, render: Render, unreadable: str, removed: str, caller: str
) -> AsyncIterator[bytes]:
    cursor = after
    chunks = hub().follow(session, after, idle_seconds=settings.KEEPALIVE_SECONDS, caller=caller)
    async with contextlib.aclosing(chunks):
        try:
            async for batch in chunks:
                if not batch:
                    yield sse.KEEPALIVE
                    continue
                cursor = batch[-1].index
                events, bad = _encoded(batch, session, render)
                if bad is not None:
                    # A client that resumes after this id, which is the last chunk known here, does not get the bad
                    # chunk again, and a browser gets a 204, on which it stops.
                    index = max(bad.index, session.next_index - 1)
                    yield events + sse.encode_event(unreadable, session_id=session.pk, index=index)
                    return
                if events:
                    yield events
        except SessionExpired:
            log.info("session %s expired during a read", short_id(session.pk), extra={"session": session.pk})
            # A client that comes back after this id is told that there is nothing any more.
            yield sse.encode_event(removed, session_id=session.pk, index=cursor + 1)


def _encoded(batch: Sequence[StreamChunk], session: ChatSession, render: Render) -> tuple[bytes, StreamChunk | None]:
    """The events of the batch up to the first chunk that cannot be rendered, and that chunk.

    They go in one write: an event at a time costs forty times as much in replay.
    """
    events: list[bytes] = []
    for chunk in batch:
        try:
            if (data := render(chunk)) is not None:
                events.append(sse.encode_event(data, session_id=session.pk, index=chunk.index))
        except Exception:
            # A rendering is a function of session and chunk alone: it would fail every time.
            about = {"session": session.pk}
            log.exception("session %s: chunk %d cannot be rendered", short_id(session.pk), chunk.index, extra=about)
            return b"".join(events), chunk
    return b"".join(events), None
