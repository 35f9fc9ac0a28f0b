"""Limits how often one client may send a wrong API key. Each web process counts for itself, in bounded memory."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from inference.errors import TooManyRequests

#: maximum number of tracked clients; above it, those without a failure for the longest time are dropped
MAX_CLIENTS = 10_000


class KeyFailures:
    """A token bucket of tries for each client, refilled at a constant rate."""

    def __init__(self, *, tries: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Allows ``tries`` wrong keys at once, and as many more in each period of ``seconds``."""
        self._tries = tries
        self._pace = tries / seconds
        self._clock = clock
        #: client → (tries left, time of that count), ordered by the latest failure
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def count(self, client: str) -> None:
        """Count a wrong key. Raises ``TooManyRequests`` when the client has none left to try."""
        now = self._clock()
        left, since = self._left.pop(client, (float(self._tries), now))
        left = min(float(self._tries), left + (now - since) * self._pace)
        self._left[client] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > MAX_CLIENTS:
            self._left.popitem(last=False)
        if left < 1:
            wait = math.ceil((1 - left) / self._pace)
            raise TooManyRequests(
                "Too many wrong API keys came from this address. "
                f"Try again in {wait} seconds; a correct key is accepted at any time.",
                code="too_many_wrong_api_keys",
                headers={"Retry-After": str(wait), "WWW-Authenticate": "Bearer"},
            )
