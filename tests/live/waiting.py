"""Waiting for a fact, with an end."""

from __future__ import annotations

import time
from collections.abc import Callable

DEADLINE_SECONDS = 30.0


def wait_for(fact: Callable[[], object], *, seconds: float = DEADLINE_SECONDS) -> None:
    """Until ``fact`` is true; fails the test when it never is."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
