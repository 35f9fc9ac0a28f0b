"""Sessions whose text is about persons: reading them needs a separate permission, listing them does not.

Operators need the states and figures of sessions, but not what a model has read from a person's papers. The app that
opens such sessions registers here which permission they need. It also stores their result, and removes their text with
``sweeper.expire`` in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, PermissionsMixin

from sessions_app.callers import is_of_a_key
from sessions_app.models import ChatSession
from sessions_app.signals import private_text_shown

_permissions: dict[str, str] = {}
_media_permissions: dict[str, str] = {}
_result_urls: dict[str, Callable[[ChatSession], str]] = {}

VIEW_MEDIA = "sessions_app.view_sessionmedia"


def keep_private(
    origin: str, permission: str, *, media_permission: str, result_url: Callable[[ChatSession], str]
) -> None:
    """Requests and answers of sessions of ``origin`` may be read only with ``permission``.

    Their pictures need ``media_permission`` too. ``result_url`` returns the page of what a session has read, "" when
    there is none.
    """
    _permissions[origin] = permission
    _media_permissions[origin] = media_permission
    _result_urls[origin] = result_url


def permission_for(origin: str) -> str:
    """The permission to read such a session besides the one to view sessions; "" when none is needed."""
    return _permissions.get(origin, "")


def private_origins() -> list[str]:
    return list(_permissions)


def is_sealed(origin: str) -> bool:
    """Whether request, chunks and media of such sessions are encrypted in the database."""
    return origin in _permissions


def is_private(session: ChatSession) -> bool:
    """Whether reading it needs a permission of its own."""
    return bool(permission_for(session.origin))


def may_stream(session: ChatSession, caller: str) -> bool:
    """Whether the API serves its events to this caller: a private session's only to the key that opened it.

    Without API keys the id of a session would be enough to read it, and operators see the ids of all sessions.
    """
    return not is_private(session) or (is_of_a_key(caller) and caller == session.caller)


def error_without_text(error: Any) -> dict[str, Any] | None:
    """Only code and type of the error that ended a session, for the history. Its message may quote the answer."""
    if error is None:
        return None
    members = error if isinstance(error, dict) else {}
    return {"message": "", "type": members.get("type"), "param": None, "code": members.get("code")}


def result_url(session: ChatSession) -> str:
    """The page of what a private session has read; "" when there is none."""
    find = _result_urls.get(session.origin)
    return find(session) if find is not None else ""


def tell_shown(session: ChatSession, what: str, *, user: Any = None, caller: str = "") -> None:
    """Tell ``private_text_shown`` before text or media of the session are shown. Says nothing of other sessions."""
    if is_private(session):
        private_text_shown.send(ChatSession, session_id=session.pk, what=what, user=user, caller=caller)


def may_read(user: AbstractBaseUser | AnonymousUser, session: ChatSession) -> bool:
    """Whether the user, who may view sessions, may also read the text of this one."""
    permission = permission_for(session.origin)
    return not permission or (isinstance(user, PermissionsMixin) and user.has_perm(permission))


def may_see_media(user: AbstractBaseUser | AnonymousUser, session: ChatSession) -> bool:
    """Whether the user, who may view sessions, may also see the pictures and videos of this one."""
    if not isinstance(user, PermissionsMixin) or not user.has_perm(VIEW_MEDIA):
        return False
    further = _media_permissions.get(session.origin, "")
    return may_read(user, session) and (not further or user.has_perm(further))
