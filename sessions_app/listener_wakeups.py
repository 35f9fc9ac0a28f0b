"""Wake listeners: those of a small session at once, those of a crowd a few at a time.

A delivery takes about 0.2 ms of the event loop, so that 300 listeners of one stream would take all of it. Those of a
crowd are woken in turn, and get more chunks at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from sessions_app.listener import Listener

#: the listeners of a session are a crowd if there are more than this in one process
CROWD_LISTENERS = 10
#: number of listeners of crowds that are woken together, and the pause before the next ones
CROWD_WAKES = 20
CROWD_PAUSE_SECONDS = 0.01


class Waker:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        #: listeners in crowds that wait for their turn, in order
        self._due: OrderedDict[Listener, None] = OrderedDict()
        self._next: asyncio.Handle | None = None

    def wake(self, listener: Listener, *, among: int) -> None:
        """Wake this listener, now or in its turn. ``among`` is how many listeners its session has here."""
        if among <= CROWD_LISTENERS:
            listener.woken.set()
            return
        self._due[listener] = None
        if self._next is None:
            # Not at once: first all listeners of the same wake-up join the queue.
            self._next = asyncio.get_running_loop().call_soon(self._wake_some)

    def forget(self, listener: Listener) -> None:
        self._due.pop(listener, None)

    def _wake_some(self) -> None:
        for _ in range(min(CROWD_WAKES, len(self._due))):
            self._due.popitem(last=False)[0].woken.set()
        loop = asyncio.get_running_loop()
        self._next = loop.call_later(CROWD_PAUSE_SECONDS, self._wake_some) if self._due else None
