"""Check repeatedly that users who watch a session in the admin still may, for all watchers of a process together.

An open WebSocket outlives the request that opened it. Meanwhile its user may log out, change the password, be
deactivated or lose the permission, in any process. So every ``CHECK_SECONDS`` two queries check all watchers of this
process. Between two checks a watcher costs an entry in a dictionary.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import weakref
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import Error
from django.db.models import QuerySet
from django.utils import timezone

from sessions_app.db import in_db

log = logging.getLogger(__name__)

PERMISSION = "sessions_app.view_chatsession"
CHECK_SECONDS = 2.0
#: maximum number of log-ins that one statement checks
BATCH = 500


class LogIn(NamedTuple):
    """What a watcher was admitted by: the log-in of its cookie, and the user as it was then."""

    session_key: str
    user_id: int
    #: changes when the password is changed
    user_hash: str
    #: a permission that the watched session needs besides ``PERMISSION``; "" for none
    also: str = ""


def log_in_of(scope: dict[str, Any]) -> LogIn | None:
    """The log-in of a connection, set by ``AuthMiddlewareStack``; None when there is none."""
    user, session = scope.get("user"), scope.get("session")
    if session is None or not isinstance(user, User):
        return None
    return LogIn(session.session_key, user.pk, session.get(HASH_SESSION_KEY, ""))


def still_permitted(log_ins: Collection[LogIn]) -> set[LogIn]:
    """Which of these log-ins are still valid, and of active staff with the permissions for what they watch.

    Takes two queries for each ``BATCH``, and one for each further permission.
    """
    allowed: set[LogIn] = set()
    remaining = iter(log_ins)
    while batch := list(itertools.islice(remaining, BATCH)):
        lasting = set(
            Session.objects.filter(
                session_key__in={log_in.session_key for log_in in batch}, expire_date__gt=timezone.now()
            ).values_list("session_key", flat=True)
        )
        user_ids = {log_in.user_id for log_in in batch}
        hashes = {user.pk: user.get_session_auth_hash() for user in _staff_with(PERMISSION, user_ids)}
        further = {also: {user.pk for user in _staff_with(also, user_ids)} for also in _others(batch)}
        allowed |= {
            log_in
            for log_in in batch
            if log_in.session_key in lasting
            and hashes.get(log_in.user_id) == log_in.user_hash
            and (not log_in.also or log_in.user_id in further[log_in.also])
        }
    return allowed


def _staff_with(permission: str, user_ids: Collection[int]) -> QuerySet[User]:
    holders = User.objects.with_perm(permission, backend="django.contrib.auth.backends.ModelBackend")
    return holders.filter(is_staff=True, pk__in=user_ids).only("password")


def _others(log_ins: Collection[LogIn]) -> set[str]:
    return {log_in.also for log_in in log_ins if log_in.also}


class Watchers:
    """The watchers of one event loop. Its task runs while there are any."""

    def __init__(self) -> None:
        self._ends: dict[object, tuple[LogIn, Callable[[], None]]] = {}
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def watching(self, log_in: LogIn, end: Callable[[], None]) -> Iterator[None]:
        """While in this context, ``end`` is called once, on this loop, when the log-in is no longer sufficient."""
        watcher = object()
        self._ends[watcher] = (log_in, end)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._check(), name="watchers")
        try:
            yield
        finally:
            self._ends.pop(watcher, None)
            if not self._ends and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            log_ins = {log_in for log_in, _ in self._ends.values()}
            try:
                allowed = await in_db(still_permitted, log_ins)
            except Error as exc:
                log.warning("the permissions of watchers could not be read and will be checked again: %s", exc)
                continue
            for watcher, (log_in, end) in list(self._ends.items()):
                if log_in in log_ins and log_in not in allowed:
                    del self._ends[watcher]
                    end()


_watchers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Watchers] = weakref.WeakKeyDictionary()


def watchers() -> Watchers:
    """The watchers of the running event loop."""
    return _watchers.setdefault(asyncio.get_running_loop(), Watchers())
