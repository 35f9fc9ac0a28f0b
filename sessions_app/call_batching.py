"""Batch database work: requests that wait are served by one call, which costs little more than one request.

A request that comes alone is served at once. Those that come while ``MAX_CALLS`` are in the database wait for the end
of one, and the next call serves them together. So in a burst the statements are far fewer than the requests.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from django.db import InterfaceError, OperationalError

from sessions_app.db import in_db
from sessions_app.errors import ApiError

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

#: calls at once: with one, whoever comes second would wait for two
MAX_CALLS = 2
#: limits of one call; a single item may be larger
MAX_ITEMS = 32
MAX_BYTES = 8 * 2**20


class CallBatcher(Generic[T, R]):
    """Calls ``serve`` on a database thread with the items of all that wait. For one event loop."""

    def __init__(
        self,
        serve: Callable[[Sequence[T]], Sequence[R | ApiError]],
        *,
        size: Callable[[T], int],
        abandoned: Callable[[R], Awaitable[None]] | None = None,
    ) -> None:
        """``serve`` returns each item's result or error. If it raises, it has rolled back.

        ``size`` is the memory of an item's media in bytes; the rest of a request is small beside them. ``abandoned``
        gets the result of a request that was cancelled while it was served.
        """
        self._serve = serve
        self._size = size
        self._abandoned = abandoned
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._calls: set[asyncio.Task[None]] = set()

    async def __call__(self, item: T) -> R:
        """The result for this item. Raises its error, or what a call with it raised."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, future))
        if len(self._calls) < MAX_CALLS:
            # In a context of its own: the call is not part of the request that happens to come first.
            task = loop.create_task(self._run(), context=contextvars.Context())
            self._calls.add(task)
        try:
            return await future
        except asyncio.CancelledError:
            if not future.cancelled() and future.exception() is None:
                await self._abandon(future.result())
            raise

    async def _run(self) -> None:
        try:
            while taken := self._next():
                await self._serve_some(taken)
        finally:
            # Not in a done-callback: a request in between would wait for a call that has already ended.
            self._calls.discard(asyncio.current_task())

    async def _serve_some(self, taken: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        items, futures = zip(*taken, strict=True)
        results: Sequence[R | Exception]
        try:
            results = await in_db(self._serve, items)
        except (ApiError, InterfaceError, OperationalError) as exc:
            # Not the fault of a single item: all of them get it.
            results = [exc] * len(items)
        except Exception as exc:
            # One item may be the reason, and must not be the others' error.
            results = [exc] if len(items) == 1 else [await self._serve_alone(item) for item in items]
        abandoned: list[R] = []
        for future, result in zip(futures, results, strict=True):
            # A future that is done belongs to a request that was cancelled.
            if isinstance(result, Exception):
                if not future.done():
                    future.set_exception(result)
            elif future.done():
                abandoned.append(result)
            else:
                future.set_result(result)
        await asyncio.gather(*map(self._abandon, abandoned))

    async def _abandon(self, result: R) -> None:
        if self._abandoned is None:
            return
        try:
            await self._abandoned(result)
        except Exception:
            log.exception("a result that nobody waits for any more was not cleaned up")

    async def _serve_alone(self, item: T) -> R | Exception:
        try:
            [result] = await in_db(self._serve, [item])
        except Exception as exc:
            return exc
        return result

    def _next(self) -> list[tuple[T, asyncio.Future[R]]]:
        """What the next call serves, without requests that were cancelled while they waited; empty when none waits."""
        taken: list[tuple[T, asyncio.Future[R]]] = []
        left = MAX_BYTES
        while self._waiting and len(taken) < MAX_ITEMS:
            item, future = self._waiting[0]
            if not future.done():
                left -= self._size(item)
                if left < 0 and taken:
                    break
                taken.append((item, future))
            self._waiting.popleft()
        return taken
