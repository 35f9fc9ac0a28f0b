"""``/v1/chat/completions``, ``/v1/cancel`` and ``/v1/sessions``. The work is in ``attaching`` and ``sessions_app``."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from ninja import Header, Query, Router

from inference.api.attaching import (
    FROM_THE_START,
    check_cursor,
    open_or_attach,
    read_cursor,
)
from inference.api.auth import caller_of
from inference.api.body import read_chat_request
from inference.api.examples import CHAT_EXAMPLES, EVENT_STREAM
from inference.api.rendering import encode_completion, render_error, renderer_of
from inference.api.replies import Cancelled, ChatCompletion, ErrorReply
from inference.api.schemas import ChatCompletionRequest, schema_of
from inference.errors import AnswerUnreadable, ApiError, OverShare, TimedOut, Unavailable
from inference.generations import wait_for_answer
from sessions_app import sse
from sessions_app.db import in_db
from sessions_app.log_lines import short_id
from sessions_app.models import ChatSession
from sessions_app.privacy import tell_shown
from sessions_app.store.finding import check_may_cancel, expired_error, find_session
from sessions_app.store.transitions import request_cancel
from sessions_app.views import TooManyStreams, check_room_for_stream, stream_session

log = logging.getLogger(__name__)

router = Router(tags=["chat"])
REFUSALS = dict.fromkeys((400, 401, 404, 409, 410, 413, 415, 429, 500, 503, 504), ErrorReply)


LastEventIdHeader = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        description="The id of the last event you have, `session_id:index`. The stream resumes after it.",
    ),
]
LastEventIdQuery = Annotated[
    str | None, Query(description="The same, for clients that cannot set a header. The header wins.")
]
IdempotencyKeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Names the session for this caller, where the body names none: the same request with the same key "
        "attaches to it. Up to 255 characters.",
    ),
]
NO_CONTENT = {"description": "The session has ended, and nothing follows the cursor."}


@router.post(
    "/v1/chat/completions",
    response={200: ChatCompletion, 204: None, **REFUSALS},
    url_name="chat",
    openapi_extra={
        "requestBody": {
            "content": {"application/json": {"schema": schema_of(ChatCompletionRequest), "examples": CHAT_EXAMPLES}},
            "required": True,
        },
        "responses": {
            200: {"description": "The answer: JSON, or events with `stream: true`.", "content": EVENT_STREAM},
            204: NO_CONTENT,
        },
    },
)
async def create_chat_completion(
    request: HttpRequest,
    last_event_id_header: LastEventIdHeader = None,
    last_event_id: LastEventIdQuery = None,
    idempotency_key: IdempotencyKeyHeader = None,
) -> HttpResponseBase:
    """Answer a chat, whole or as server-sent events (`stream: true`).

    Every event has the id `session_id:index`. Send the last one back as `Last-Event-ID` to resume after it: the events
    that you missed come from the database, the next ones live. The same `session_id` with the same request attaches
    to its session.
    """
    chat = await read_chat_request(request)
    caller = caller_of(request)
    if chat.asked.stream:
        _check_room_for_stream(caller)
    cursor = read_cursor(last_event_id_header, last_event_id)
    session, after = await open_or_attach(chat, cursor, caller=caller, idempotency_key=idempotency_key)
    if chat.asked.stream:
        return _stream(session, after, include_usage=chat.asked.include_usage, caller=caller)
    return await _whole(session)


@router.get(
    "/v1/sessions/{session_id}/events",
    response={204: None, **REFUSALS},
    url_name="events",
    openapi_extra={
        "responses": {200: {"description": "The events after the cursor.", "content": EVENT_STREAM}, 204: NO_CONTENT}
    },
)
@router.api_operation(["HEAD"], "/v1/sessions/{session_id}/events", response=None, include_in_schema=False)
async def read_events(
    request: HttpRequest,
    session_id: str,
    last_event_id_header: LastEventIdHeader = None,
    last_event_id: LastEventIdQuery = None,
    include_usage: Annotated[bool, Query(description="Also send the event with the token counts.")] = False,
) -> HttpResponseBase:
    """The same stream for a browser's `EventSource`; 204 when nothing follows the cursor, which ends its retries."""
    caller = caller_of(request)
    session = await in_db(find_session, session_id, caller=caller)
    cursor = read_cursor(last_event_id_header, last_event_id)
    if cursor is not None:
        check_cursor(session, cursor)
    after = cursor.index if cursor else FROM_THE_START
    if request.method == "HEAD":
        # This only checks that there is something to read. It does not count as a listener.
        return HttpResponse(
            status=204 if session.is_at_end(after) else 200,
            content_type=sse.CONTENT_TYPE,
            headers={"X-Session-ID": session.pk},
        )
    await in_db(tell_shown, session, "events", caller=caller)
    return _stream(session, after, include_usage=include_usage, caller=caller)


@router.post("/v1/cancel/{session_id}", response={200: Cancelled, **REFUSALS}, url_name="cancel")
async def cancel(request: HttpRequest, session_id: str) -> HttpResponseBase:
    """Stop a run, wherever it runs. Cancelling again, or a finished run, changes nothing."""
    session = await in_db(_cancel, session_id, caller_of(request))
    return JsonResponse({"ok": True, "session_id": session.pk}, headers={"X-Session-ID": session.pk})


def _cancel(session_id: str, caller: str) -> ChatSession:
    check_may_cancel(session_id, caller=caller)
    return request_cancel(session_id)


def _check_room_for_stream(caller: str) -> None:
    """Refuse the request before it opens a session whose stream this process cannot serve."""
    try:
        check_room_for_stream(caller)
    except TooManyStreams as exc:
        raise _too_many_streams(exc) from exc


def _stream(session: ChatSession, after: int, *, include_usage: bool, caller: str) -> HttpResponseBase:
    if session.is_at_end(after):
        return HttpResponse(status=204, headers={"X-Session-ID": session.pk})
    try:
        return stream_session(
            session,
            after=after,
            render=renderer_of(session, include_usage=include_usage),
            unreadable=render_error(AnswerUnreadable(session.pk)),
            removed=render_error(expired_error(session)),
            caller=caller,
        )
    except TooManyStreams as exc:
        # The session is open: the same request without its id would start a second one.
        raise _too_many_streams(exc, {"X-Session-ID": session.pk, "X-Should-Retry": "false"}) from exc


def _too_many_streams(exc: TooManyStreams, headers: dict[str, str] | None = None) -> ApiError:
    headers = {"Retry-After": "2", **(headers or {})}
    if exc.of_caller:
        return OverShare(
            f"{exc.of_caller} of your streams are already open, which is your share. "
            "Reconnect with Last-Event-ID when some of them have ended.",
            headers=headers,
        )
    return Unavailable(
        f"{settings.MAX_OPEN_STREAMS} streams are already open. Reconnect with Last-Event-ID in a moment.",
        code="too_many_streams",
        headers=headers,
    )


async def _whole(session: ChatSession) -> HttpResponse:
    named = {"X-Session-ID": session.pk}
    try:
        answer = await wait_for_answer(session, timeout_seconds=settings.ANSWER_TIMEOUT_SECONDS)
    except asyncio.CancelledError:
        # The client has disconnected. If the server named the session, nobody else knows its id.
        if not session.is_named:
            await in_db(request_cancel, session.pk)
        raise
    if answer is None:
        raise TimedOut(
            f"The answer took longer than {settings.ANSWER_TIMEOUT_SECONDS:g} seconds. The session continues: "
            f"read it at /v1/sessions/{session.pk}/events.",
            headers=named,
        )
    if answer.error is not None:
        raise ApiError.from_dict(answer.error, status=answer.error_status, headers=named)
    try:
        body = encode_completion(session, answer)
    except Exception as exc:
        # The body depends only on what is stored, so every retry would fail too.
        about = {"session": session.pk}
        log.exception("session %s: the answer cannot be sent", short_id(session.pk), extra=about)
        raise AnswerUnreadable(session.pk, headers=named) from exc
    return HttpResponse(body, content_type="application/json", headers=named)
