"""One generation from the asking side: store it, send it, wait for its answer. Chat and KTP reading both come here."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import secrets
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from django.conf import settings

from inference import readiness
from inference.errors import AnswerUnreadable
from inference.stored_request import StoredRequest
from sessions_app.db import in_db
from sessions_app.deltas import Delta, StoredTokenLogprob
from sessions_app.hub import hub
from sessions_app.log_lines import short_id
from sessions_app.models import ChatSession, Chunk
from sessions_app.storable import storable_error
from sessions_app.store import opening
from sessions_app.wakeups import StreamChunk

log = logging.getLogger(__name__)


class StoredMedia(Protocol):
    """What ``inference.media`` hands over: checked bytes."""

    @property
    def kind(self) -> str: ...
    @property
    def content_type(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def data(self) -> bytes: ...


@dataclasses.dataclass(slots=True)
class Choice:
    """One of the answers of a session; most have one."""

    text: str = ""
    reasoning: str = ""
    #: as in the session's deltas, of every token; empty where nobody asked for them
    logprobs: list[StoredTokenLogprob] = dataclasses.field(default_factory=list)
    #: its own, where the session gives several answers
    finish_reason: str = ""
    #: what another server says in place of an answer that it will not give
    refusal: str = ""


@dataclasses.dataclass(slots=True)
class Answer:
    """What a finished session said."""

    #: at least one; as many as have said something
    choices: list[Choice] = dataclasses.field(default_factory=lambda: [Choice()])
    #: stop, length, content_filter or cancelled: of all choices that have none of their own; empty when it failed
    finish_reason: str = ""
    error: dict[str, Any] | None = None
    #: HTTP status that belongs to the error
    error_status: int = 500
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0

    def add(self, deltas: Iterable[Delta]) -> None:
        pieces: dict[tuple[int, str], list[str]] = {}
        for delta in deltas:
            match delta["type"]:
                case "text" | "reasoning" | "refusal":
                    number = delta.get("choice", 0)
                    pieces.setdefault((number, delta["type"]), []).append(delta["text"])
                    self._choice(number).logprobs += delta.get("logprobs", ())
                case "finish" if "choice" in delta:
                    self._choice(delta["choice"]).finish_reason = delta["reason"]
                case "finish":
                    self.finish_reason = delta["reason"]
                case "usage":
                    self.prompt_tokens = delta["prompt_tokens"]
                    self.completion_tokens = delta["completion_tokens"]
                    self.reasoning_tokens = delta["reasoning_tokens"]
                    self.cached_tokens = delta.get("cached_tokens", 0)
                case "error":
                    self.error = storable_error(delta["error"])
                    self.error_status = delta["status"]
        for (number, said), texts in pieces.items():
            choice = self._choice(number)
            setattr(choice, said, "".join([getattr(choice, said), *texts]))

    @property
    def text(self) -> str:
        """Of the first choice."""
        return self.choices[0].text

    def _choice(self, number: int) -> Choice:
        while len(self.choices) <= number:
            self.choices.append(Choice())
        return self.choices[number]


def new_seed() -> int:
    """For a request that names none: drawn once and stored, so that every attempt draws the same tokens."""
    return secrets.randbits(63)


async def start_generation(
    *,
    request: StoredRequest,
    media: Sequence[StoredMedia],
    origin: str = "chat",
    request_id: str = "",
    session_id: str | None = None,
    request_digest: str = "",
    caller: str = "",
    needs_listener: bool = True,
) -> ChatSession:
    """Open a session for this request and send it to the workers; with a known id, the session that has it.

    ``media`` are those of its messages, in order. ``caller`` is who asks. Raises ``Conflict`` when the id belongs to
    another request, ``OverShare`` when the caller has its share of the queue, and ``Unavailable`` when the queue is
    full or no worker could load the model.
    """
    return await in_db(
        _open_session,
        session_id=session_id,
        request=request.to_dict(),
        request_digest=request_digest,
        model=settings.SERVED_MODEL_NAME,
        origin=origin,
        request_id=request_id,
        caller=caller,
        media=[opening.NewMedia(item.kind, item.content_type, item.sha256, item.data) for item in media],
        needs_listener=needs_listener,
    )


def _open_session(**columns: Any) -> ChatSession:
    readiness.refuse_if_failed(readiness.read_model_health())
    session, _ = opening.open_session(**columns)
    return session


async def wait_for_answer(session: ChatSession, *, timeout_seconds: float) -> Answer | None:
    """Listen until the session ends; None when that takes longer. The session goes on either way.

    Raises ``SessionExpired`` when the stream expires meanwhile, and ``AnswerUnreadable`` when a chunk is none.
    """
    answer = Answer()
    chunks = hub().follow(session, -1, idle_seconds=settings.KEEPALIVE_SECONDS)
    try:
        async with asyncio.timeout(timeout_seconds), contextlib.aclosing(chunks) as batches:
            async for batch in batches:
                _add(answer, batch, session.pk)
    except TimeoutError:
        return None
    return answer


def _add(answer: Answer, batch: Iterable[StreamChunk], session_id: str) -> None:
    try:
        answer.add(chunk.delta for chunk in batch)
    except (LookupError, TypeError, AttributeError) as exc:
        about = {"session": session_id}
        log.exception("session %s: a chunk is not what a delta is", short_id(session_id), extra=about)
        raise AnswerUnreadable(session_id, headers={"X-Session-ID": session_id}) from exc


def read_answer(session_id: str) -> Answer:
    """What the session has said so far, from the database."""
    answer = Answer()
    answer.add(Chunk.objects.after(session_id, -1).values_list("delta", flat=True))
    return answer
