"""Start requests that arrive at the same time a few at a time, taking turns between client addresses.

From the first line of middleware to the first wait of its view, a request occupies the event loop for a few
milliseconds. Two hundred at once would occupy it for half a second, in which no stream advances and /health is not
answered. Here each request starts in its own iteration of the loop, which handles everything else in between.
``MAX_STARTING`` requests may be in this phase at once; waiting requests of different addresses are admitted in turn.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from sessions_app.client_address import client_block_of

Application = Callable[[dict[str, Any], Any, Any], Any]

#: maximum requests between their start and the start of their answer
MAX_STARTING = 8
#: after this time a request no longer counts: it waits for something, such as a model or a picture
MAX_SECONDS = 0.1


def in_turn(application: Application, *, for_path: Callable[[str], object]) -> Application:
    """``application``; its requests to the paths for which ``for_path`` is true are started in turn.

    The path is the one that Django routes by, without the prefix of a proxy.
    """
    semaphores: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, FairSemaphore] = weakref.WeakKeyDictionary()

    async def run(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if not for_path(scope["path"].removeprefix(scope.get("root_path", ""))):
            await application(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        semaphore = semaphores.get(loop) or semaphores.setdefault(loop, FairSemaphore())
        await semaphore.acquire(_address(scope))
        permit = _Permit(semaphore)
        timer = loop.call_later(MAX_SECONDS, permit.release)

        async def send_and_release(message: dict[str, Any]) -> None:
            permit.release()
            await send(message)

        try:
            await application(scope, receive, send_and_release)
        finally:
            timer.cancel()
            permit.release()

    return run


class FairSemaphore:
    """Admits at most ``MAX_STARTING`` requests at once, and one in each iteration of the loop."""

    def __init__(self) -> None:
        self._free = MAX_STARTING
        #: address → its waiting requests in order; the address whose turn it is comes first
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._one_a_turn = asyncio.Lock()

    async def acquire(self, address: str) -> None:
        """Wait to be admitted. Each admitted request must call ``release`` once."""
        if self._free:
            self._free -= 1
        else:
            mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(address, deque()).append(mine)
            try:
                await mine
            except asyncio.CancelledError:
                if mine.done() and not mine.cancelled():
                    self.release()
                raise
        try:
            async with self._one_a_turn:
                # Releasing the lock wakes the next request, which runs in the following iteration of the loop.
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.release()
            raise

    def release(self) -> None:
        while self._waiting:
            address, queue = self._waiting.popitem(last=False)
            # Requests that were cancelled while they waited are still in the queue.
            while queue and queue[0].done():
                queue.popleft()
            if queue:
                queue.popleft().set_result(None)
                if queue:
                    self._waiting[address] = queue
                return
        self._free += 1


class _Permit:
    """The permit of one admitted request; only its first ``release`` counts."""

    def __init__(self, semaphore: FairSemaphore) -> None:
        self._semaphore: FairSemaphore | None = semaphore

    def release(self) -> None:
        semaphore, self._semaphore = self._semaphore, None
        if semaphore is not None:
            semaphore.release()


def _address(scope: dict[str, Any]) -> str:
    forwarded = [value.decode("latin-1") for name, value in scope.get("headers", ()) if name == b"x-forwarded-for"]
    return client_block_of((scope.get("client") or ("",))[0] or "", ",".join(forwarded))
