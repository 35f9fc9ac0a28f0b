"""The threads that decode media: a fixed few, so that a burst of large files cannot take every core."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.conf import settings

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking work on a media thread and wait for it without holding up the event loop.

    Being cancelled stops the waiting, not the work: work that can take long has its own deadline.
    """
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_threads(), functools.partial(work, *args, **kwargs))


@functools.cache
def _threads() -> ThreadPoolExecutor:
    # Made at the first use, so that a process forked before it has its own.
    return ThreadPoolExecutor(max_workers=settings.MEDIA_DECODE_THREADS, thread_name_prefix="media")
