"""One answer, from the upstream's stream into the handle that a session's thread waits on."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx
from django.conf import settings
from httpx_sse import EventSource, ServerSentEvent

from inference.engine.handle import Handle
from inference.engine.types import Delta, Finish, FinishReason, Likelihood, TokenLogprobs
from inference.upstream.call import UNKNOWN_TOKEN, Call, Said
from inference.upstream.errors import Interrupted, UpstreamError, error_in, failure, interrupted_by, refusal

log = logging.getLogger(__name__)

DONE = "[DONE]"
#: seconds between tries, doubled each time
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 8.0


class Relay:
    """Runs one call to its end, in as many streams as it takes."""

    def __init__(self, client: httpx.AsyncClient, call: Call, said: Said, handle: Handle) -> None:
        self._client = client
        self._call = call
        self._handle = handle
        self._said = said
        self._patience = Patience(settings.UPSTREAM_RETRY_SECONDS)
        #: of a server like this one: the last event that was read
        self._last_event_id = ""

    async def run(self) -> None:
        """Never raises but when it is cancelled: the handle gets the end, whatever it is."""
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
        while True:
            try:
                return await self._one_stream()
            except httpx.HTTPError as exc:
                cut = interrupted_by(exc)
            except Interrupted as exc:
                cut = exc
            log.info("the upstream's stream is cut after %d tokens: it %s", self._said.tokens, cut.reason)
            await self._patience.wait(cut)

    async def _one_stream(self) -> Finish:
        call, said = self._call, self._said
        if call.target.resume != "session" and said.tokens and call.tokens_left(said) <= 0:
            return Finish("length", 0, said.tokens)
        # In a thread: with a video in it this takes a while, and all the other streams are on this loop.
        body = await asyncio.to_thread(call.payload, said)
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if call.request_id:
            headers["X-Request-ID"] = call.request_id
        if self._last_event_id:
            headers["Last-Event-ID"] = self._last_event_id
        async with self._client.stream("POST", "chat/completions", content=body, headers=headers) as response:
            if response.status_code != httpx.codes.OK:
                await response.aread()
                raise self._refusal(response)
            return await self._read(EventSource(response).aiter_sse())

    def _refusal(self, response: httpx.Response) -> Exception:
        if self._call.target.resume == "session":
            if self._last_event_id and response.status_code in (httpx.codes.NO_CONTENT, httpx.codes.NOT_FOUND):
                # It does not know the place: from the start then, and what has been said is compared.
                self._last_event_id = ""
                return Interrupted("has lost the session")
            if response.status_code in (httpx.codes.CONFLICT, httpx.codes.GONE):
                return UpstreamError.cannot_go_on("it does not have the answer any more")
        return refusal(response)

    async def _read(self, events: AsyncIterator[ServerSentEvent]) -> Finish:
        """Deliver what the events say."""
        is_kept = self._call.target.resume == "session"
        answer = Answer(
            self._said, repeats=is_kept and not self._last_event_id, earlier_tokens=0 if is_kept else self._said.tokens
        )
        async for event in events:
            if event.data == DONE:
                return answer.finish()
            data = _parsed(event.data)
            if "error" in data:
                raise failure(error_in(event.data.encode()))
            for delta in answer.read(data):
                self._handle.put(delta, reasoning_tokens=answer.reasoning_tokens)
                self._patience.restore()
            if is_kept:
                self._last_event_id = event.id
        if answer.reason is not None and not is_kept:
            return answer.finish()  # some servers send no [DONE]
        raise Interrupted("broke the answer off")


class Answer:
    """The chunks of one stream as deltas and, last, as a Finish. What ``said`` has already is not said again."""

    def __init__(self, said: Said, *, repeats: bool, earlier_tokens: int) -> None:
        """``repeats``: the stream begins with all that was said, and must say the same.

        ``earlier_tokens`` of the answer are in its usage part of the prompt.
        """
        self._said = said
        self._repeated = {"text": said.text, "reasoning": said.reasoning} if repeats else {"text": "", "reasoning": ""}
        self._before = earlier_tokens
        self._usage: dict[str, Any] = {}
        self.reason: FinishReason | None = None
        self.reasoning_tokens = 0

    def read(self, data: dict[str, Any]) -> list[Delta]:
        """Raises UpstreamError when the upstream says something else than it said before, or has cancelled."""
        self._note_usage(data.get("usage"))
        if data.get("session_state") == "cancelled":
            raise UpstreamError("The answer was cancelled at the upstream server.", code="upstream_cancelled")
        found = []
        for choice in data.get("choices") or ():
            delta = choice.get("delta") or {}
            # One of two names; a server may use both for the same.
            reasoning = self._new("reasoning", delta.get("reasoning_content") or delta.get("reasoning") or "")
            text = self._new("text", delta.get("content") or "")
            logprobs = _logprobs(choice)
            # The last tokens may be no whole character, and have a likelihood all the same.
            if text or reasoning or (logprobs and not any(self._repeated.values())):
                found.append(self._deliver(text, reasoning, logprobs))
            if choice.get("finish_reason"):
                self.reason = "length" if choice["finish_reason"] == "length" else "stop"
        return found

    def finish(self) -> Finish:
        if any(self._repeated.values()):
            raise UpstreamError.cannot_go_on("it says something else now")
        generated = self._usage.get("completion_tokens")
        return Finish(
            self.reason or "stop",
            max(0, int(self._usage.get("prompt_tokens") or 0) - self._before),
            self._said.tokens if generated is None else self._before + int(generated),
            self.reasoning_tokens,
        )

    def _new(self, kind: str, text: str) -> str:
        repeated = self._repeated[kind]
        if not repeated:
            return text
        length = min(len(repeated), len(text))
        if text[:length] != repeated[:length]:
            raise UpstreamError.cannot_go_on("it says something else now")
        self._repeated[kind] = repeated[length:]
        return text[length:]

    def _deliver(self, text: str, reasoning: str, logprobs: tuple[TokenLogprobs, ...]) -> Delta:
        counted = self._usage.get("completion_tokens")
        tokens = 1 if counted is None else max(0, self._before + int(counted) - self._said.tokens)
        self._said.text += text
        self._said.reasoning += reasoning
        self._said.tokens += tokens
        return Delta((UNKNOWN_TOKEN,) * tokens, text, reasoning, logprobs)

    def _note_usage(self, usage: dict[str, Any] | None) -> None:
        if not usage:
            return
        self._usage = usage
        details = usage.get("completion_tokens_details") or {}
        self.reasoning_tokens = int(details.get("reasoning_tokens") or 0)


class Patience:
    """How long an upstream may say nothing new before a session is given up."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.restore()

    def restore(self) -> None:
        """It has said something."""
        self._until: float | None = None
        self._pause = FIRST_PAUSE

    async def wait(self, cut: Interrupted) -> None:
        """Until the next try. Raises the UpstreamError that ``cut`` makes when there is to be none."""
        now = asyncio.get_running_loop().time()
        if self._until is None:
            self._until = now + self._seconds
        # Not all at the same moment: they were cut together.
        pause = max(self._pause * random.uniform(0.5, 1.0), cut.retry_after)  # noqa: S311  (no secret)
        if now + pause > self._until:
            raise cut.as_error()
        await asyncio.sleep(pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)


def _logprobs(choice: dict[str, Any]) -> tuple[TokenLogprobs, ...]:
    told = (choice.get("logprobs") or {}).get("content") or ()
    return tuple(
        TokenLogprobs(_likelihood(token), tuple(map(_likelihood, token.get("top_logprobs") or ()))) for token in told
    )


def _likelihood(told: dict[str, Any]) -> Likelihood:
    raw = told.get("bytes")
    return Likelihood(UNKNOWN_TOKEN, told["token"], None if raw is None else bytes(raw), float(told["logprob"]))


def _parsed(data: str) -> dict[str, Any]:
    try:
        parsed = json.loads(data)
    except ValueError as exc:
        raise UpstreamError("The upstream server sent an event that is not JSON.") from exc
    if not isinstance(parsed, dict):
        raise UpstreamError("The upstream server sent an event that is no chunk of an answer.")
    return parsed
