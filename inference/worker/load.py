"""How busy a worker is, as its heartbeat reports it and the admin shows it."""

from __future__ import annotations

import collections
import dataclasses
import time
from typing import Any, Self

from django.conf import settings

#: tokens per second are the mean of so long
WINDOW_SECONDS = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerLoad:
    """One report. What is not known, as of an upstream's batch, is None."""

    #: rows of the batch in use, and how many there may be
    rows: int | None = None
    max_rows: int | None = None
    #: tokens in the memory for keys and values, and how many it may have
    kv_tokens: int | None = None
    max_kv_tokens: int | None = None
    device: str = ""
    #: of its GPUs, in bytes
    gpu_bytes: int | None = None
    max_gpu_bytes: int | None = None
    tokens_per_second: float = 0.0

    @classmethod
    def from_json(cls, stored: Any) -> Self:
        """Of a row that an older or newer version has written: what is missing or of another kind is not known."""
        stored = stored if isinstance(stored, dict) else {}
        counts = {
            name: _count(stored.get(name))
            for name in ("rows", "max_rows", "kv_tokens", "max_kv_tokens", "gpu_bytes", "max_gpu_bytes")
        }
        device, rate = stored.get("device"), stored.get("tokens_per_second")
        return cls(
            **counts,
            device=device if isinstance(device, str) else "",
            tokens_per_second=float(rate) if isinstance(rate, int | float) else 0.0,
        )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


class LoadReader:
    """Makes the reports of one worker."""

    def __init__(self) -> None:
        #: moments, with the tokens that were generated until then
        self._looks: collections.deque[tuple[float, int]] = collections.deque()

    def read(self, stats: Any, generated: int) -> dict[str, Any]:
        """The report for the row. ``stats`` are the engine's, None without one; ``generated`` is of all time."""
        found: dict[str, Any] = {} if stats is None else dataclasses.asdict(stats)
        load = WorkerLoad(
            rows=found.get("running"),
            max_rows=found.get("max_batch_size", settings.MAX_BATCH_SIZE),
            kv_tokens=found.get("running_tokens"),
            max_kv_tokens=found.get("max_running_tokens"),
            device=str(found.get("device", "")),
            gpu_bytes=found.get("device_bytes"),
            max_gpu_bytes=found.get("max_device_bytes") or None,
            tokens_per_second=round(self._rate(generated), 2),
        )
        return dataclasses.asdict(load)

    def _rate(self, generated: int) -> float:
        now = time.monotonic()
        # The youngest look that is a window old stays, as what the others are compared with.
        while len(self._looks) > 1 and now - self._looks[1][0] >= WINDOW_SECONDS:
            self._looks.popleft()
        self._looks.append((now, generated))
        began, before = self._looks[0]
        return (generated - before) / (now - began) if now > began else 0.0
