"""Do for many requests at once what costs the database as much for one: those that wait are served in one call.

A request that comes alone is served at once. Those that come while ``MAX_CALLS`` are in the database wait for the end
of one, and the next call serves them together. So in a burst the statements are far fewer than the requests.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from django.db import InterfaceError, OperationalError

from sessions_app.db import in_db
from sessions_app.errors import ApiError

T = TypeVar("T")
R = TypeVar("R")

#: calls at once: with one, whoever comes second would wait for two
MAX_CALLS = 2
#: limits of one call; a single item may be larger
MAX_ITEMS = 32
MAX_BYTES = 8 * 2**20


class Together(Generic[T, R]):
    """Calls ``serve`` on a database thread with the items of all that wait. For one event loop."""

    def __init__(self, serve: Callable[[Sequence[T]], Sequence[R | ApiError]], *, size: Callable[[T], int]) -> None:
        """``serve`` returns each item's result or error. ``size`` is the memory that an item takes, in bytes."""
        self._serve = serve
        self._size = size
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
            task.add_done_callback(self._calls.discard)
        return await future

    async def _run(self) -> None:
        while self._waiting:
            await self._serve_some()

    async def _serve_some(self) -> None:
        items, futures = zip(*self._next(), strict=True)
        results: Sequence[R | Exception]
        try:
            results = await in_db(self._serve, items)
        except (InterfaceError, OperationalError) as exc:
            # The database's own, so that each would meet it.
            results = [exc] * len(items)
        except Exception as exc:
            # One item may be the reason, and must not be the others' error.
            results = [exc] if len(items) == 1 else [await self._serve_alone(item) for item in items]
        for future, result in zip(futures, results, strict=True):
            if future.done():
                continue  # its request was cancelled
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

    async def _serve_alone(self, item: T) -> R | Exception:
        try:
            [result] = await in_db(self._serve, [item])
        except Exception as exc:
            return exc
        return result

    def _next(self) -> list[tuple[T, asyncio.Future[R]]]:
        taken = [self._waiting.popleft()]
        left = MAX_BYTES - self._size(taken[0][0])
        while self._waiting and len(taken) < MAX_ITEMS and (left := left - self._size(self._waiting[0][0])) >= 0:
            taken.append(self._waiting.popleft())
        return taken
