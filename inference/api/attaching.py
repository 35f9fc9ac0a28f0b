"""Find the session that a chat request refers to, by its cursor or its id, or open a new one."""

from __future__ import annotations

from django.conf import settings

from inference import generations
from inference.api.body import ChatRequest
from inference.api.constraints import constraint_of
from inference.api.idempotency import name_of_key
from inference.errors import InvalidRequest, NotFound
from inference.media.load import load_all
from inference.message_text import is_storable
from inference.readiness import check_model_available
from inference.stored_request import StoredRequest
from sessions_app import sse
from sessions_app.db import in_db
from sessions_app.errors import KeyConflict, SessionConflict
from sessions_app.models import ChatSession
from sessions_app.request_id import current_request_id
from sessions_app.sse import Cursor
from sessions_app.store import finding

#: maximum nesting of objects in a request for an upstream
MAX_DEPTH = 100
#: the index before the first event: the whole stream is sent
FROM_THE_START = -1


def read_cursor(header: str | None, query: str | None) -> Cursor | None:
    """``Last-Event-ID``, from the header or, for clients that cannot set one, the query. The header wins."""
    value = header or query
    if not value:
        return None
    try:
        return sse.parse_cursor(value)
    except sse.MalformedCursor as exc:
        raise InvalidRequest(
            "Last-Event-ID must be session_id:index, as the server sent it.",
            param="Last-Event-ID",
            code="malformed_cursor",
        ) from exc


def check_cursor(session: ChatSession, cursor: Cursor) -> None:
    """Refuse a cursor of another session, or one of an event that was not sent yet."""
    if cursor.session_id != session.pk:
        raise InvalidRequest(
            f"Last-Event-ID belongs to session {cursor.session_id}, but the request is for session {session.pk}.",
            param="Last-Event-ID",
            code="malformed_cursor",
        )
    if cursor.index >= session.next_index:
        raise InvalidRequest(
            f"Session {session.pk} has not sent event {cursor.index} yet.",
            param="Last-Event-ID",
            code="malformed_cursor",
        )


async def open_or_attach(
    chat: ChatRequest, cursor: Cursor | None, *, caller: str, idempotency_key: str | None = None
) -> tuple[ChatSession, int]:
    """The session to answer from, and the index after which its stream begins. ``caller`` identifies the client.

    ``idempotency_key`` names the session of a request that names none itself.
    """
    asked = chat.asked
    check_model_name(asked.model)
    if cursor is not None:
        if asked.session_id not in (None, cursor.session_id):
            raise InvalidRequest(
                f"Last-Event-ID belongs to session {cursor.session_id}, but "
                f"{settings.SESSION_ID_FIELD} says {asked.session_id}.",
                param=settings.SESSION_ID_FIELD,
                code="malformed_cursor",
            )
        session = await in_db(finding.find_session, cursor.session_id, caller=caller, param="Last-Event-ID")
        check_cursor(session, cursor)
        if asked.messages is not None:
            finding.check_same_request(session, chat.digest)
        return session, cursor.index
    if asked.session_id is not None:
        return await _open_or_find(chat, asked.session_id, caller), FROM_THE_START
    try:
        name = name_of_key(idempotency_key, caller, "inference.idempotency")
        return await _open_or_find(chat, name and f"idem_{name}", caller), FROM_THE_START
    except SessionConflict as exc:
        # Its message names the session, which a caller who guessed the key could then read.
        raise KeyConflict from exc


async def _open_or_find(chat: ChatRequest, session_id: str | None, caller: str) -> ChatSession:
    if session_id is not None:
        # This comes before any media are fetched.
        known = await in_db(finding.find_same, session_id, chat.digest)
        if known is not None:
            return known
    return await _open(chat, session_id, caller)


def check_model_name(name: str | None) -> None:
    """Raises ``NotFound`` (404, ``model_not_found``) for a model that is not the served one."""
    if name not in (None, "", settings.SERVED_MODEL_NAME, settings.MODEL_REPO_ID):
        raise NotFound(
            f"The model {name} is not served here. This server has {settings.SERVED_MODEL_NAME}.",
            param="model",
            code="model_not_found",
        )


async def _open(chat: ChatRequest, session_id: str | None, caller: str) -> ChatSession:
    asked, conversation = chat.asked, chat.conversation
    if conversation is None:
        raise InvalidRequest("messages is missing.", param="messages")
    is_upstream = settings.INFERENCE_ENGINE == "openai"
    # An upstream server checks these itself.
    constraint = None if is_upstream else await constraint_of(asked)
    use = None if is_upstream else asked.tool_use
    wire_format = (asked.wire_format() or {}) | (asked.wire_tools() or {}) if is_upstream else {}
    if not is_storable(wire_format, depth=MAX_DEPTH):
        raise InvalidRequest(
            "A tool or a response format contains text that cannot be stored: a NUL character or invalid Unicode."
        )
    # Check first: no media are fetched for a model that is not available.
    vision = await check_model_available() if conversation.sources else None
    media = await load_all(conversation.sources, model=vision, caller=caller)
    return await generations.start_generation(
        request=StoredRequest(
            messages=conversation.messages,
            sampling=asked.sampling(seed=generations.new_seed()),
            choices=asked.n or 1,
            ending=asked.ending(),
            echo=bool(asked.echo),
            constraint=constraint,
            tools=use.tools if use else (),
            one_call=use.one_call if use else False,
            wire_format=wire_format or None,
        ),
        media=media,
        session_id=session_id,
        request_digest=chat.digest,
        request_id=current_request_id(),
        caller=caller,
    )
