"""What streams cost: threads, connections and memory of a listener, delivery, added latency, and replay.

It starts servers of its own on this machine, with the small local model, and stops them. PostgreSQL is that of
``TESTS_POSTGRES_URL``; Redis is started on a free port:

    python -m benchmarks.streams
    python -m benchmarks.streams --idle 200 --active 50 --json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.listeners import all_ended, asking, attaching, close, listen
from benchmarks.servers import (
    allow_sockets,
    commits,
    cpu_seconds,
    embedded,
    feeder,
    forget_peak_memory,
    memory_kb,
    scaled,
    threads,
    web_connections,
)
from inference.tiny_models.vision import build_tiny_model
from tests.live.stack import ScaledStack, Stack

QUESTION: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Ceritakan sesuatu."}],
    "stream": True,
    "ignore_eos": True,
}
SETTINGS = {
    "MAX_OPEN_STREAMS": 20_000,
    "MAX_QUEUED_SESSIONS": 20_000,
    "SESSION_LEASE_SECONDS": 60,
    "MAX_BATCH_SIZE": 50,
}
FEED_SECONDS = 10
ACTIVE_RATE = 5
LATENCY_STREAMS = 50
LATENCY_RATE = 10
GENERATED_TOKENS = 150
REPLAY_EVENTS = 20_000
REPLAYS = 5
#: the process has served a few streams before its memory is taken: what the first ones load is no listener's cost
WARM_UP_STREAMS = 20
SAMPLE_SECONDS = 0.5
#: the threads of the requests that opened the streams end a moment later
SETTLE_SECONDS = 6


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--idle", type=int, default=1000, help="streams of sessions that wait (default 1000)")
    parser.add_argument("--active", type=int, default=200, help="streams of sessions that grow (default 200)")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    options = parser.parse_args(arguments)
    allow_sockets(2 * (options.idle + options.active) + 500)
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = build_tiny_model(folder / "model")
        with scaled(folder / "listeners", model, with_worker=False) as stack:
            figures |= asyncio.run(hold(stack, idle=options.idle, active=options.active))
            figures["latency_scaled_fed"] = asyncio.run(fed_latency(stack))
            figures["replay_scaled"] = asyncio.run(replay(stack, "web"))
        with scaled(folder / "scaled", model, with_worker=True) as stack:
            figures["latency_scaled"] = asyncio.run(generated_latency(stack))
        with embedded(folder / "embedded", model) as stack:
            figures["latency_embedded"] = asyncio.run(generated_latency(stack))
            figures["replay_embedded"] = asyncio.run(replay(stack, "serve"))
    print(json.dumps(figures, indent=2) if options.json else table(figures))
    return 0


async def hold(stack: ScaledStack, *, idle: int, active: int) -> dict[str, dict[str, float]]:
    """All idle streams, then the active ones beside them."""
    pid = stack.processes["web"].pid
    close(await listen(stack.port, [asking(QUESTION) for _ in range(WARM_UP_STREAMS)]))
    await asyncio.sleep(SETTLE_SECONDS)
    memory_before = memory_kb(pid)
    waiting = await listen(stack.port, [asking(QUESTION) for _ in range(idle)])
    await asyncio.sleep(SETTLE_SECONDS)
    held = {
        "streams": idle,
        "threads": threads(pid),
        "database_connections": web_connections(stack),
        "kb_a_listener": (memory_kb(pid) - memory_before) / idle,
    }
    feeder(stack, "open", "active", active)
    growing = await listen(stack.port, [attaching(f"active-{number}") for number in range(active)])
    await asyncio.sleep(SETTLE_SECONDS)
    peak = {"threads": 0, "database_connections": 0}
    cpu_before = cpu_seconds(pid)
    feeding = asyncio.create_task(asyncio.to_thread(feeder, stack, "feed", "active", active, ACTIVE_RATE, FEED_SECONDS))
    while not feeding.done():
        await asyncio.sleep(SAMPLE_SECONDS)
        seen = {"threads": threads(pid), "database_connections": await asyncio.to_thread(web_connections, stack)}
        peak = {name: max(peak[name], seen[name]) for name in peak}
    await all_ended(growing)
    cpu = cpu_seconds(pid) - cpu_before
    times = sorted(time for listener in growing for index, time in listener.received.items() if index)
    added = [
        1000 * (listener.received[index] - commit)
        for listener in growing
        for index, commit in enumerate(json.loads(await feeding), start=1)
    ]
    expected = active * (ACTIVE_RATE * FEED_SECONDS + 4)
    got = sum(len(listener.received) for listener in growing)
    delivered = {
        "streams": idle + active,
        **peak,
        "events_per_second": len(times) / (times[-1] - times[0]),
        "events_missing": expected - got,
        "web_cpu_share": cpu / (times[-1] - times[0]),
        **spread(added),
    }
    close(waiting)
    return {"idle": held, "active": delivered}


async def fed_latency(stack: ScaledStack) -> dict[str, float]:
    """From the commit of a chunk to its event, without a model that wants the same processors."""
    feeder(stack, "open", "latency", LATENCY_STREAMS)
    listeners = await listen(stack.port, [attaching(f"latency-{number}") for number in range(LATENCY_STREAMS)])
    await asyncio.sleep(2)
    committed = json.loads(
        await asyncio.to_thread(feeder, stack, "feed", "latency", LATENCY_STREAMS, LATENCY_RATE, FEED_SECONDS)
    )
    await all_ended(listeners)
    return spread(
        1000 * (listener.received[index] - commit)
        for listener in listeners
        for index, commit in enumerate(committed, start=1)
    )


async def generated_latency(stack: Stack) -> dict[str, float]:
    """The same of the small model's own tokens: here worker, web process and clients share the processors."""
    names = [f"generated-{number}" for number in range(LATENCY_STREAMS)]
    body = QUESTION | {"max_tokens": GENERATED_TOKENS, "stream_options": {"include_usage": True}}
    # What a process loads and connects for its first streams is not what is asked for.
    await all_ended(await listen(stack.port, [asking(QUESTION | {"max_tokens": 5}) for _ in range(WARM_UP_STREAMS)]))
    listeners = await listen(stack.port, [asking(body | {"session_id": name}) for name in names])
    await all_ended(listeners)
    by_name = dict(zip(names, listeners, strict=True))
    return spread(
        1000 * (by_name[name].received[index] - committed)
        for name, index, committed in commits(stack)
        if name in by_name
    )


async def replay(stack: Stack, process: str) -> dict[str, float]:
    """A long finished session, read whole, several times; the first warms up."""
    feeder(stack, "fill", "long", REPLAY_EVENTS)
    pid = stack.processes[process].pid
    rates: list[float] = []
    for number in range(REPLAYS + 1):
        if number == 1:
            forget_peak_memory(pid)
            memory_before = memory_kb(pid, "VmHWM")
        started = time.time()
        [listener] = await listen(stack.port, [attaching("long")])
        await all_ended([listener])
        if len(listener.received) != REPLAY_EVENTS:
            raise RuntimeError(f"{len(listener.received)} of {REPLAY_EVENTS} events came")
        rates.append(REPLAY_EVENTS / (listener.received[REPLAY_EVENTS - 1] - started))
    return {
        "events": REPLAY_EVENTS,
        "events_per_second": statistics.median(rates[1:]),
        "best_events_per_second": max(rates),
        "memory_growth_kb": memory_kb(pid, "VmHWM") - memory_before,
    }


def spread(milliseconds: Iterable[float]) -> dict[str, float]:
    ordered = sorted(milliseconds)
    return {
        "p50_ms": statistics.median(ordered),
        "p99_ms": ordered[round(0.99 * (len(ordered) - 1))],
        "max_ms": ordered[-1],
        "events": len(ordered),
    }


def table(figures: dict[str, dict[str, float]]) -> str:
    """One block a measurement, one line a figure."""
    return "\n".join(
        f"{measurement}\n" + "".join(f"  {name:24}{value:12,.1f}\n" for name, value in each.items())
        for measurement, each in figures.items()
    )


if __name__ == "__main__":
    sys.exit(main())
