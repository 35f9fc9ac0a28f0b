"""Remembers what the upstream has refused that an answer can do without, so that not every card is asked for twice."""

from __future__ import annotations

import json
import time
from typing import Any

from inference.backends.upstream.target import Target

#: an upstream may be upgraded, so it is asked for the format again after this many seconds
FORGET_SECONDS = 600.0


class RefusedFormats:
    """The refusals that one process has seen. Used by one thread.

    Only formats that an answer can do without belong here, which are the constants of this project's own requests, and
    the names of the reasoning in messages: so there are few.
    """

    def __init__(self) -> None:
        #: target and format → when it was refused, on the clock of ``time.monotonic``
        self._refused: dict[tuple[Target, str], float] = {}

    def add(self, target: Target, wire_format: dict[str, Any]) -> None:
        self._refused[_key(target, wire_format)] = time.monotonic()

    def has(self, target: Target, wire_format: dict[str, Any]) -> bool:
        """Whether the target has refused the format within the last ``FORGET_SECONDS``."""
        refused = self._refused.get(_key(target, wire_format))
        return refused is not None and time.monotonic() - refused < FORGET_SECONDS


def _key(target: Target, wire_format: dict[str, Any]) -> tuple[Target, str]:
    return target, json.dumps(wire_format, sort_keys=True)
