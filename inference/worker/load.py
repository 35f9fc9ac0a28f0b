"""How busy a worker is, as its heartbeat reports it and the admin shows it."""

from __future__ import annotations

import collections
import dataclasses
import time
from typing import Any, Self

from django.conf import settings

#: window over which tokens per second are averaged
WINDOW_SECONDS = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerLoad:
    """One report. Unknown values are None, for example those of an upstream's batch."""

    #: rows of the batch in use, and their maximum
    rows: int | None = None
    max_rows: int | None = None
    #: tokens held in the memory for keys and values, and their maximum
    kv_tokens: int | None = None
    max_kv_tokens: int | None = None
    device: str = ""
    #: bytes in use on its GPUs, and their total
    gpu_bytes: int | None = None
    max_gpu_bytes: int | None = None
    tokens_per_second: float = 0.0

    @classmethod
    def from_json(cls, stored: Any) -> Self:
        """Parse the stored report of any version; missing or malformed fields count as unknown."""
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
        #: (time, tokens generated so far) samples
        self._looks: collections.deque[tuple[float, int]] = collections.deque()

    def read(self, stats: Any, generated: int) -> dict[str, Any]:
        """The report for the row. ``stats`` are the engine's, None without one; ``generated`` is the total so far."""
        found: dict[str, Any] = {} if stats is None else dataclasses.asdict(stats)
        load = WorkerLoad(
            rows=found.get("running"),
            max_rows=found.get("max_batch_size", settings.MAX_BATCH_SIZE or None),
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
        # Keep the newest sample that is at least WINDOW_SECONDS old as the baseline.
        while len(self._looks) > 1 and now - self._looks[1][0] >= WINDOW_SECONDS:
            self._looks.popleft()
        self._looks.append((now, generated))
        began, before = self._looks[0]
        return (generated - before) / (now - began) if now > began else 0.0
