"""Requests that come in the same moment begin one after the other, each in a turn of the event loop of its own.

From the first line of middleware to the first wait of its view a request has the loop for a few milliseconds. Two
hundred at once would have it for half a second, in which no stream moves and /health is not answered. Here the loop
looks at everything else in between.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any

Application = Callable[[dict[str, Any], Any, Any], Any]


def in_turn(application: Application, *, for_path: Callable[[str], object]) -> Application:
    """``application``, whose requests to a path that ``for_path`` is true of begin one in each turn of their loop.

    The path is the one that Django routes by, without the prefix of a proxy.
    """
    locks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()

    async def run(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if for_path(scope["path"].removeprefix(scope.get("root_path", ""))):
            async with locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
                # Whoever is next is woken by the release, and runs in the turn after this one.
                await asyncio.sleep(0)
        await application(scope, receive, send)

    return run
