"""Sessions whose text is about persons: reading them needs a separate permission, listing them does not.

Operators need the states and figures of sessions, but not what a model has read from a person's papers. The app that
opens such sessions registers here which permission they need.
"""

from __future__ import annotations

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, PermissionsMixin

from sessions_app.callers import is_of_a_user
from sessions_app.models import ChatSession

_permissions: dict[str, str] = {}
_media_permissions: dict[str, str] = {}

VIEW_MEDIA = "sessions_app.view_sessionmedia"


def keep_private(origin: str, permission: str, *, media_permission: str) -> None:
    """What sessions of ``origin`` are asked and say is only for those with ``permission``.

    Their pictures take ``media_permission`` besides.
    """
    _permissions[origin] = permission
    _media_permissions[origin] = media_permission


def permission_for(origin: str) -> str:
    """The permission to read such a session besides the one to view sessions; "" when none is needed."""
    return _permissions.get(origin, "")


def private_origins() -> list[str]:
    return list(_permissions)


def is_sealed(origin: str) -> bool:
    """Whether request, chunks and media of such sessions are encrypted in the database."""
    return origin in _permissions


def is_private(session: ChatSession) -> bool:
    """Whether it is private and a logged-in user opened it. The API has no log-ins and never serves such a session."""
    return bool(permission_for(session.origin)) and is_of_a_user(session.caller)


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
