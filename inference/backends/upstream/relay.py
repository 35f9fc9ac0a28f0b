"""Relays one answer from the upstream's stream to the handle that a session's thread waits on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpx
from django.conf import settings
from httpx_sse import ServerSentEvent

from inference.backends.upstream.answer import AnswerReader
from inference.backends.upstream.body import read_body
from inference.backends.upstream.call import AnswerSoFar, Call
from inference.backends.upstream.errors import (
    REQUEST_ERRORS,
    Interrupted,
    UpstreamError,
    error_in,
    failure,
    interrupted_by,
    refusal,
)
from inference.backends.upstream.refused_formats import RefusedFormats
from inference.backends.upstream.sse import events_of
from inference.backends.upstream.wire import NotReadable, parsed
from inference.engine.handle import Handle
from inference.engine.types import Delta, Finish
from sessions_app import sse
from sessions_app.storable import WholeCharacters

log = logging.getLogger(__name__)

DONE = "[DONE]"
#: seconds between attempts, doubled each time
FIRST_PAUSE = 0.25
MAX_PAUSE = 8.0


class Relay:
    """Runs one call to its end, in as many streams as it takes."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        call: Call,
        so_far: AnswerSoFar,
        handle: Handle,
        refused_formats: RefusedFormats,
    ) -> None:
        self._client = client
        self._call = call
        self._handle = handle
        self._so_far = so_far
        self._refused_formats = refused_formats
        #: what the request had at first, until the upstream refused it
        self._dropped: list[dict[str, Any]] = []
        self._backoff = RetryBackoff(settings.UPSTREAM_RETRY_SECONDS)
        #: id of the last event that was read; used with another Sambung server
        self._last_event_id = ""
        self._characters = WholeCharacters()

    async def run(self) -> None:
        """Raises only when it is cancelled: every other end is delivered to the handle."""
        try:
            end: Finish | UpstreamError = await self._finish()
        except UpstreamError as exc:
            end = exc
        except Exception:
            log.exception("the upstream's answer could not be read")
            end = UpstreamError(
                "The upstream server's answer could not be read. The log of the worker has the details."
            )
        self._handle.finish(end)

    async def _finish(self) -> Finish:
        lean = self._call.without_refused()
        # An upstream that keeps the session accepts only the request that opened it, and what an earlier attempt sent
        # is not known.
        may_differ = self._call.target.resume != "session" or not self._call.was_sent
        if lean and may_differ and self._refused_formats.has(self._call.target, lean[0]):
            self._call = lean[1]
        while True:
            try:
                return await self._one_stream()
            except httpx.HTTPError as exc:
                cut = interrupted_by(exc)
            except Interrupted as exc:
                cut = exc
            except UpstreamError as exc:
                if exc.status not in REQUEST_ERRORS or not self._drop_refused():
                    raise
                log.warning(
                    "the upstream may not support this response format, or reasoning in messages; "
                    "retrying without it: %s",
                    exc,
                )
                continue
            log.info("the upstream's stream was interrupted after %d tokens: it %s", self._so_far.tokens, cut.reason)
            await self._backoff.wait(cut)

    def _drop_refused(self) -> bool:
        """Do without what the upstream may have refused from here on. Returns whether the request has changed."""
        lean = self._call.without_refused()
        if lean is None or (self._so_far.tokens and self._call.target.resume != "session"):
            return False
        self._dropped.append(lean[0])
        self._call = lean[1]
        return True

    async def _one_stream(self) -> Finish:
        call, so_far = self._call, self._so_far
        if call.target.resume != "session" and so_far.tokens and call.tokens_left(so_far) <= 0:
            return Finish("length", 0, so_far.tokens)
        # In a thread, because encoding a video takes a while and all other streams are on this loop.
        body = await asyncio.to_thread(call.payload, so_far)
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
            # Compressed data may expand a thousandfold here.
            "Accept-Encoding": "identity",
        }
        if call.request_id:
            headers["X-Request-ID"] = call.request_id
        if self._last_event_id:
            headers["Last-Event-ID"] = self._last_event_id
        async with self._client.stream("POST", "chat/completions", content=body, headers=headers) as response:
            if response.status_code != httpx.codes.OK:
                raise self._refusal(response, await read_body(response))
            for dropped in self._dropped:
                # It was what the upstream refused.
                self._refused_formats.add(call.target, dropped)
            async with contextlib.aclosing(events_of(response)) as events:
                return await self._read(events)

    def _refusal(self, response: httpx.Response, body: bytes) -> Exception:
        if self._call.target.resume == "session":
            if self._last_event_id and response.status_code in (httpx.codes.NO_CONTENT, httpx.codes.NOT_FOUND):
                # The upstream does not know this event. Start again, and compare with what was received before.
                self._last_event_id = ""
                return Interrupted("has lost the session")
            if response.status_code in (httpx.codes.CONFLICT, httpx.codes.GONE):
                return UpstreamError.cannot_continue("it no longer has the answer")
        return refusal(response, body)

    async def _read(self, events: AsyncIterator[ServerSentEvent]) -> Finish:
        """Deliver the contents of the events."""
        is_kept = self._call.target.resume == "session"
        if not self._last_event_id:
            self._characters = WholeCharacters()
        answer = AnswerReader(
            self._so_far,
            self._characters,
            repeats=is_kept and not self._last_event_id,
            earlier_tokens=0 if is_kept else self._so_far.tokens,
            alternatives=self._call.alternatives,
        )
        async for event in events:
            data = event.data.strip()
            if data == DONE:
                return self._end(answer)
            if data:
                self._deliver(answer.read(_chunk_in(event)), answer)
            if is_kept and self._can_be_sent_back(event.id):
                self._last_event_id = event.id
        if answer.reason is not None and not is_kept:
            return self._end(answer)  # some servers send no [DONE]
        raise Interrupted("ended the stream before the answer was complete")

    def _can_be_sent_back(self, event_id: str) -> bool:
        """Whether another Sambung server would accept this id as a position in this answer."""
        try:
            return sse.parse_cursor(event_id).session_id == self._call.upstream_id
        except sse.MalformedCursor:
            return False

    def _end(self, answer: AnswerReader) -> Finish:
        self._deliver(answer.end(), answer)
        return answer.finish()

    def _deliver(self, deltas: Iterable[Delta], answer: AnswerReader) -> None:
        for delta in deltas:
            self._handle.put(delta, reasoning_tokens=answer.reasoning_tokens)
            self._backoff.reset()


class RetryBackoff:
    """The retries of one answer, which end when the upstream has sent nothing new for a given time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.reset()

    def reset(self) -> None:
        """Start over: the upstream has sent something new."""
        self._until: float | None = None
        self._pause = FIRST_PAUSE

    async def wait(self, cut: Interrupted) -> None:
        """Wait until the next attempt. Raises ``cut`` as an UpstreamError when the time is up."""
        now = asyncio.get_running_loop().time()
        if self._until is None:
            self._until = now + self._seconds
        # Jitter, because many streams may have been cut at the same moment.
        pause = max(self._pause * random.uniform(0.5, 1.0), cut.retry_after)  # noqa: S311  (no secret)
        if now + pause > self._until:
            raise cut.as_error()
        await asyncio.sleep(pause)
        self._pause = min(2 * self._pause, MAX_PAUSE)


def _chunk_in(event: ServerSentEvent) -> dict[str, Any]:
    """The chunk in an event. Raises UpstreamError if it is an error or not a chunk."""
    try:
        chunk = parsed(event.data)
    except NotReadable as exc:
        raise UpstreamError("The upstream server sent an event that is not JSON.") from exc
    if not isinstance(chunk, dict):
        raise UpstreamError("The upstream server sent an event that is not a chunk of an answer.")
    if chunk.get("error") or chunk.get("object") == "error" or event.event == "error":
        raise failure(error_in(chunk))
    return chunk
