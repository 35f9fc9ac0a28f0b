"""Look up a session by the id in a request, or raise the error that the API answers with 404, 409 or 410."""

from __future__ import annotations

from sessions_app import sse
from sessions_app.errors import SessionConflict, SessionExpired, SessionNotFound, TextRemoved
from sessions_app.models import SESSION_ID_MAX_LENGTH, ChatSession
from sessions_app.privacy import is_private, may_stream


def find_session(session_id: str, *, caller: str, param: str = "session_id") -> ChatSession:
    """The session whose stream the API may serve to this caller, in any state.

    Raises ``SessionNotFound`` and, when the stream has expired, ``SessionExpired``; both name ``param``.
    """
    session = ChatSession.objects.filter(pk=_checked(session_id, param)).first()
    if session is None or not may_stream(session, caller):
        raise SessionNotFound(session_id, param=param)
    if session.expired_at is not None:
        raise expired_error(session, param=param)
    return session


def expired_error(session: ChatSession, *, param: str | None = "session_id") -> SessionExpired:
    """Why nothing of the session can be read any more."""
    return (TextRemoved if is_private(session) else SessionExpired)(session.pk, param=param)


def check_may_cancel(session_id: str, *, caller: str) -> None:
    """Raises ``SessionNotFound`` where this caller may not cancel the session. Expired sessions may be cancelled.

    The id is enough for a chat. A private session may be cancelled only by the caller that opened it: an API key, or an
    address where no keys are set.
    """
    session = ChatSession.objects.only("origin", "caller").filter(pk=_checked(session_id, "session_id")).first()
    if session is None or (is_private(session) and caller != session.caller):
        raise SessionNotFound(session_id)


def find_same(session_id: str, request_digest: str) -> ChatSession | None:
    """The session of this id, if this request opened it; None when the id is free.

    Raises ``SessionConflict`` when another request opened it, and ``SessionExpired``. Sessions that the API does not
    serve conflict too: the error says that the id is taken, and does not reveal why.
    """
    session = ChatSession.objects.filter(pk=session_id).first()
    if session is None:
        return None
    if session.expired_at is not None and not is_private(session):
        raise SessionExpired(session_id)
    check_same_request(session, request_digest)
    return session


def check_same_request(session: ChatSession, request_digest: str) -> None:
    """Raises ``SessionConflict`` unless the session was opened with the request of this digest."""
    if session.request_digest != request_digest:
        raise SessionConflict(session.pk)


def _checked(session_id: str, param: str) -> str:
    """``session_id``, if a session can have it. PostgreSQL refuses NUL in a query's parameters."""
    if not sse.SESSION_ID.fullmatch(session_id):
        raise SessionNotFound(session_id[:SESSION_ID_MAX_LENGTH], param=param)
    return session_id
