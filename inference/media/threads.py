"""The threads for media: a small fixed pool for blocking work, and one thread with its own event loop for downloads."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

#: threads for base64 and local files: short work, but too long for an event loop
BLOCKING_THREADS = 2


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking work on a media thread and wait for it without blocking the event loop.

    Being cancelled stops the waiting, not the work. Decoding is not for these threads: see ``decoding``.
    """
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_threads(), functools.partial(work, *args, **kwargs))


@functools.cache
def _threads() -> ThreadPoolExecutor:
    # Made at the first use, so that a process forked before it has its own.
    return ThreadPoolExecutor(max_workers=BLOCKING_THREADS, thread_name_prefix="media")


async def on_media_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the download loop, so that slow or hostile hosts cannot keep another loop busy."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, _loop()))


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    # A daemon: every download has a deadline, and no caller waits for one any more when the process ends.
    threading.Thread(target=loop.run_forever, name="media-fetch", daemon=True).start()
    return loop
