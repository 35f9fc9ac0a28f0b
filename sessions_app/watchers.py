"""Who watches a session in the admin, and whether they still may: asked for all watchers of a process together.

An open WebSocket outlives the request that let it in. Its user may log out, change the password, be deactivated or lose
the right meanwhile, in any process. So every ``LOOK_SECONDS`` two queries ask about all who watch here. Between them a
watcher costs an entry in a dictionary.
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
LOOK_SECONDS = 2.0
#: what one statement asks about
BATCH = 500


class LogIn(NamedTuple):
    """What lets a watcher in: the log-in behind the cookie, and its user as they were then."""

    session_key: str
    user_id: int
    #: another one once the password has been changed
    user_hash: str
    #: a permission that the watched session takes besides ``PERMISSION``; "" for none
    also: str = ""


def log_in_of(scope: dict[str, Any]) -> LogIn | None:
    """The log-in of a connection that ``AuthMiddlewareStack`` has looked at; None when there is none."""
    user, session = scope.get("user"), scope.get("session")
    if session is None or not isinstance(user, User):
        return None
    return LogIn(session.session_key, user.pk, session.get(HASH_SESSION_KEY, ""))


def those_who_may_watch(log_ins: Collection[LogIn]) -> set[LogIn]:
    """The log-ins that last, of active members of the staff who may view sessions, and what each watches.

    Two queries for each ``BATCH``, and one for each further permission.
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
    """Those of one event loop. It looks after them while there are any."""

    def __init__(self) -> None:
        self._ends: dict[object, tuple[LogIn, Callable[[], None]]] = {}
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def watching(self, log_in: LogIn, end: Callable[[], None]) -> Iterator[None]:
        """Inside, ``end`` is called, once and on this loop, when the log-in does not suffice any more."""
        watcher = object()
        self._ends[watcher] = (log_in, end)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look(), name="watchers")
        try:
            yield
        finally:
            self._ends.pop(watcher, None)
            if not self._ends and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            log_ins = {log_in for log_in, _ in self._ends.values()}
            try:
                allowed = await in_db(those_who_may_watch, log_ins)
            except Error as exc:
                log.warning("whether watchers may still watch could not be read and is tried again: %s", exc)
                continue
            for watcher, (log_in, end) in list(self._ends.items()):
                if log_in in log_ins and log_in not in allowed:
                    del self._ends[watcher]
                    end()


_watchers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Watchers] = weakref.WeakKeyDictionary()


def watchers() -> Watchers:
    """Those of the running event loop."""
    return _watchers.setdefault(asyncio.get_running_loop(), Watchers())
