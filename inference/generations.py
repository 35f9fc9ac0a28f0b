"""Start a generation and wait for its answer, for chats and KTP readings."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
import weakref
from collections.abc import Iterable, Sequence
from typing import Protocol

from django.conf import settings

from inference import readiness
from inference.errors import AnswerUnreadable
from inference.stored_request import StoredRequest
from sessions_app import tracing
from sessions_app.answer import UNREADABLE_CHUNK_ERRORS, Answer
from sessions_app.call_batching import CallBatcher
from sessions_app.db import in_db
from sessions_app.errors import ApiError
from sessions_app.hub import hub
from sessions_app.log_lines import short_id
from sessions_app.models import ChatSession
from sessions_app.store import opening
from sessions_app.store.transitions import request_cancel
from sessions_app.wakeups import StreamChunk

log = logging.getLogger(__name__)


class StoredMedia(Protocol):
    """An image or video whose bytes ``inference.media`` has checked."""

    @property
    def kind(self) -> str: ...
    @property
    def content_type(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def data(self) -> bytes: ...


def new_seed() -> int:
    """The seed for a request without one. It is stored, so that every attempt samples the same tokens."""
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
    """Open a session for this request and send it to the workers; with the id of a session, return that session.

    ``media`` are the media of its messages, in order. ``caller`` identifies the client. Raises as
    ``opening.open_session``, and ``Unavailable`` when no worker could load the model.
    """
    asked_at = time.time()
    asked = opening.NewSession(
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
    session, _ = await _opener()(asked)
    if session.created_at.timestamp() >= asked_at:
        tracing.record(session.pk, "open", start=asked_at, end=time.time(), attributes={"request_id": request_id})
    return session


_openers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, CallBatcher[opening.NewSession, opening.Opened]] = (
    weakref.WeakKeyDictionary()
)


def _opener() -> CallBatcher[opening.NewSession, opening.Opened]:
    """Opens the sessions of the running event loop's requests."""
    loop = asyncio.get_running_loop()
    if loop not in _openers:
        _openers[loop] = CallBatcher(_open_sessions, size=lambda asked: asked.media_bytes, abandoned=_cancel_if_unnamed)
    return _openers[loop]


def _open_sessions(asked: Sequence[opening.NewSession]) -> list[opening.Opened | ApiError]:
    readiness.refuse_if_failed(readiness.read_model_health())
    return opening.open_sessions(asked)


async def _cancel_if_unnamed(opened: opening.Opened) -> None:
    """The client left before it could learn the session's id, so nobody will read the answer."""
    session, is_new = opened
    if is_new and not session.is_named:
        await in_db(request_cancel, session.pk)


async def wait_for_answer(session: ChatSession, *, timeout_seconds: float) -> Answer | None:
    """Listen until the session ends; None on a timeout. The session continues either way.

    Raises ``SessionExpired`` when the stream expires meanwhile, and ``AnswerUnreadable``
    when a row is not a chunk.
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
        answer.add(batch)
    except UNREADABLE_CHUNK_ERRORS as exc:
        about = {"session": session_id}
        log.exception("session %s: a chunk does not hold a delta", short_id(session_id), extra=about)
        raise AnswerUnreadable(session_id, headers={"X-Session-ID": session_id}) from exc
