"""Parses the upstream's events as in the WHATWG standard, and none longer than ``UPSTREAM_MAX_EVENT_BYTES``.

https://html.spec.whatwg.org/multipage/server-sent-events.html. ``httpx-sse`` parses the fields. What it does not do is
done before: removing a byte order mark, decoding UTF-8 whatever the header says, ending a line at a lone CR without
waiting for the next character, and giving up on an event that does not end.
"""

from __future__ import annotations

import codecs
from collections.abc import AsyncGenerator, AsyncIterator

import httpx
from django.conf import settings
from httpx_sse import EventSource, ServerSentEvent

from inference.backends.upstream.errors import UpstreamError

CONTENT_TYPE = "text/event-stream"


def events_of(response: httpx.Response) -> AsyncGenerator[ServerSentEvent]:
    """The events of a response whose body was not read yet, including events without data.

    Raises UpstreamError for a response that is not an event stream and, while iterating, for an event that is too long;
    httpx.HTTPError when the connection breaks.
    """
    if response.headers.get("Content-Type", "").partition(";")[0].strip().lower() != CONTENT_TYPE:
        raise UpstreamError("The upstream server did not send an event stream. It must support `stream: true`.")
    plain = httpx.Response(
        httpx.codes.OK, headers={"Content-Type": f"{CONTENT_TYPE}; charset=utf-8"}, stream=_Lines(response)
    )
    return EventSource(plain).aiter_sse()


class _Lines(httpx.AsyncByteStream):
    """The bytes of ``response`` with LF at the end of every line, up to an event that is too long."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._is_at_start = True
        self._ends_in_cr = False
        #: bytes of the unfinished event: of its complete lines, and of the last one
        self._event_bytes = 0
        self._line_bytes = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        beginning = b""
        async for chunk in self._response.aiter_bytes():
            if self._is_at_start:
                beginning += chunk
                if len(beginning) < len(codecs.BOM_UTF8) and codecs.BOM_UTF8.startswith(beginning):
                    continue
                self._is_at_start = False
                chunk = beginning.removeprefix(codecs.BOM_UTF8)
            chunk = self._with_line_feeds(chunk)
            fitting = self._measure(chunk)
            yield chunk[:fitting]
            if fitting < len(chunk):
                raise UpstreamError("The upstream server sent an event that is too long to be read.")

    def _with_line_feeds(self, chunk: bytes) -> bytes:
        if self._ends_in_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._ends_in_cr = False
        if b"\r" not in chunk:
            return chunk
        self._ends_in_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _measure(self, chunk: bytes) -> int:
        """How many bytes of the chunk come before the line that makes an event too long."""
        position = 0
        for number, line in enumerate(chunk.split(b"\n")):
            if number:
                # The previous line is complete. An empty line ends the event.
                self._event_bytes = self._event_bytes + self._line_bytes + 1 if self._line_bytes else 0
                self._line_bytes = 0
            self._line_bytes += len(line)
            if self._event_bytes + self._line_bytes > settings.UPSTREAM_MAX_EVENT_BYTES:
                return position
            position += len(line) + 1
        return len(chunk)
