"""A cached database query that all viewers of a process share."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from django.db import Error

log = logging.getLogger(__name__)

T = TypeVar("T")

#: how long a viewer waits for another's query; a viewer does not wait if the last result is younger than this
WAIT_SECONDS = 5.0


class CachedResult(NamedTuple, Generic[T]):
    value: T
    #: monotonic time; equal times mean the same result
    read_at: float
    #: the database did not answer when it was last asked
    is_old: bool


class SharedCache(Generic[T]):
    """The last result of ``read``, which is called by one thread at a time and at most once in ``seconds``.

    While the database does not answer, the last result is returned, marked as old.
    """

    def __init__(self, read: Callable[[], T], *, seconds: float) -> None:
        self._read = read
        self._seconds = seconds
        self._lock = threading.Lock()
        self._last: tuple[T, float] | None = None
        self._tried_at = 0.0
        self._has_failed = False

    def get(self) -> CachedResult[T]:
        """The result. If there is none yet, raises the database's error or ``TimeoutError``."""
        if self._is_due() and self._lock.acquire(timeout=0 if self._has_recent() else WAIT_SECONDS):
            try:
                if self._is_due():
                    self._refresh()
            finally:
                self._lock.release()
        if self._last is None:
            raise TimeoutError("the first result takes too long")
        value, read_at = self._last
        return CachedResult(value, read_at, self._has_failed)

    def forget(self) -> None:
        self._last = None

    def _is_due(self) -> bool:
        return self._last is None or time.monotonic() - self._tried_at >= self._seconds

    def _has_recent(self) -> bool:
        return self._last is not None and time.monotonic() - self._last[1] < WAIT_SECONDS

    def _refresh(self) -> None:
        try:
            value = self._read()
        except Error as exc:
            self._has_failed = True
            if self._last is None:
                raise
            log.warning("the figures of the front page could not be read: %s", exc)
        else:
            self._has_failed = False
            self._last = (value, time.monotonic())
        self._tried_at = time.monotonic()
