"""Real threads with connections of their own, started together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connections

T = TypeVar("T")
DEADLINE_SECONDS = 60.0


def at_once(*calls: Callable[[], T]) -> list[T]:
    """What the calls return, each made in a thread, all at the same moment. Raises what they raise."""
    start = threading.Barrier(len(calls), timeout=DEADLINE_SECONDS)

    def one(call: Callable[[], T]) -> T:
        try:
            start.wait()
            return call()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(one, call) for call in calls]
        return [future.result(DEADLINE_SECONDS) for future in futures]


def times(call: Callable[[], T], count: int) -> Sequence[Callable[[], T]]:
    return [call] * count
