"""Purge many readings from PostgreSQL beside streams: how fast, in how much memory, and what the streams notice.

It starts a web process of its own with Redis on a free port, and stops them; PostgreSQL is that of
``TESTS_POSTGRES_URL``:

    python -m benchmarks.purge
    python -m benchmarks.purge --readings 10000 --json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.listeners import all_ended, attaching, listen
from benchmarks.servers import allow_sockets, feeder, memory_kb, scaled
from inference.tiny_models.vision import build_tiny_model
from tests.live.stack import ROOT, ScaledStack

STREAMS = 50
#: chunks a second of each stream
RATE = 10
FEED_SECONDS = 10
#: readings that the purge has erased before its memory counts: by then it has loaded what it needs
WARM_UP_READINGS = 500
SAMPLE_SECONDS = 0.1
LONGEST_FILL_SECONDS = 600


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readings", type=int, default=100_000, help="readings that are due (default 100000)")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    options = parser.parse_args(arguments)
    allow_sockets(2 * STREAMS + 500)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with scaled(folder / "stack", build_tiny_model(folder / "model"), with_worker=False) as stack:
            figures = asyncio.run(measure(stack, options.readings))
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        print("\n".join(f"{name:32}{value:14,.2f}" for name, value in figures.items()))
    return 0


async def measure(stack: ScaledStack, readings: int) -> dict[str, float]:
    """Rounds of streams before, during and after the purge."""
    started = time.monotonic()
    await asyncio.to_thread(fill, stack, readings)
    figures: dict[str, float] = {"readings": readings, "fill_seconds": time.monotonic() - started}
    await p95_ms(stack, "warm-up")
    before = [await p95_ms(stack, f"before{number}") for number in range(2)]
    purge = Purge(stack)
    watching = asyncio.create_task(asyncio.to_thread(purge.watch))
    during: list[float] = []
    while not watching.done():
        value = await p95_ms(stack, f"during{len(during)}")
        # A round that goes on after the purge would be of both.
        during += [value] if not watching.done() or not during else []
    await watching
    after = await p95_ms(stack, "after")
    left = stack.query("SELECT count(*) FROM ocr_ktpextraction")[0][0]
    chunks = stack.query("SELECT count(*) FROM sessions_app_chunk WHERE session_id ~ '^old-'")[0][0]
    return figures | {
        "left": int(left) + int(chunks),
        "purge_seconds": purge.seconds,
        "readings_per_second": readings / purge.seconds,
        "memory_kb_warm": purge.memory_warm,
        "memory_kb_peak": purge.memory_peak,
        "memory_kb_growth": purge.memory_peak - purge.memory_warm,
        "p95_ms_before": statistics.median(before),
        "p95_ms_during": statistics.median(during),
        "p95_ms_during_worst_round": max(during),
        "p95_ms_after": after,
        "p95_during_to_before": statistics.median(during) / statistics.median(before),
    }


def fill(stack: ScaledStack, readings: int) -> None:
    subprocess.run(
        [sys.executable, "-m", "benchmarks.old_cards", str(readings)],
        cwd=ROOT,
        env=stack.env,
        check=True,
        timeout=LONGEST_FILL_SECONDS,
    )


class Purge:
    """``manage.py ktp purge`` as a process, and its memory."""

    def __init__(self, stack: ScaledStack) -> None:
        self._stack = stack
        self.seconds = 0.0
        self.memory_warm = self.memory_peak = 0

    def watch(self) -> None:
        """Run it to its end."""
        log = self._stack.folder / "purge.log"
        started = time.monotonic()
        process = self._stack.launch("purge", "manage.py", "ktp", "purge", "--no-vacuum")
        while process.is_running():
            time.sleep(SAMPLE_SECONDS)
            try:
                memory = memory_kb(process.pid)
            except (FileNotFoundError, IndexError):  # it has just ended
                break
            self.memory_peak = max(self.memory_peak, memory)
            if not self.memory_warm and erased(log) >= WARM_UP_READINGS:
                self.memory_warm = memory
        status = process.stop()
        self.seconds = time.monotonic() - started
        del self._stack.processes["purge"]
        if status:
            raise RuntimeError(log.read_text()[-2000:])


def erased(log: Path) -> int:
    """How many readings its last line of progress tells of."""
    lines = [line for line in log.read_text().splitlines() if line.endswith("…")] if log.exists() else []
    return int(lines[-1].split(":")[1].strip(" …").replace(",", "")) if lines else 0


async def p95_ms(stack: ScaledStack, name: str) -> float:
    """From the commit of a chunk to its event at the client, of ``STREAMS`` streams."""
    await asyncio.to_thread(feeder, stack, "open", name, STREAMS)
    listeners = await listen(stack.port, [attaching(f"{name}-{number}") for number in range(STREAMS)])
    fed = await asyncio.to_thread(feeder, stack, "feed", name, STREAMS, RATE, FEED_SECONDS)
    await all_ended(listeners)
    times = sorted(
        1000 * (listener.received[index] - commit)
        for listener in listeners
        for index, commit in enumerate(json.loads(fed), start=1)
    )
    return times[round(0.95 * (len(times) - 1))]


if __name__ == "__main__":
    sys.exit(main())
