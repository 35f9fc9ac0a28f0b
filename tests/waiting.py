"""Waiting for a fact that another thread, task or process brings about. Nothing in the tests waits in another way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

#: how long a fact may take on a busy machine; no test gets slower by it
DEADLINE_SECONDS = 60.0
LOOK_EVERY_SECONDS = 0.01


def wait_for(fact: Callable[[], object], *, seconds: float = DEADLINE_SECONDS) -> None:
    """Until ``fact`` is true; fails the test when it never is."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(LOOK_EVERY_SECONDS)


async def until(fact: Callable[[], object], *, seconds: float = DEADLINE_SECONDS) -> None:
    """``wait_for`` on the event loop."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(LOOK_EVERY_SECONDS)
