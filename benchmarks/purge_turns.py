"""What streams notice of a purge, compared in short turns, for machines on which other work runs too.

Beside fifty streams there is, for two seconds each and in random order, no purge, or one with the given batch and
pause; outside its turns it waits between two batches, and holds no lock. So what else runs on the machine meets all
of them alike. Servers as in ``benchmarks.purge``:

    python -m benchmarks.purge_turns --purge 100 1 --purge 25 3
    python -m benchmarks.purge_turns --turns 10 --purge 25 3
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.listeners import all_ended, attaching, listen
from benchmarks.purge import RATE, STREAMS, fill
from benchmarks.servers import allow_sockets, feeder, scaled
from inference.tiny_models.vision import build_tiny_model
from tests.live.stack import ROOT, ScaledStack
from tests.waiting import until

TURN_SECONDS = 2.0
#: the beginning of a turn, which may still have something of the turn before
SETTLING_SECONDS = 0.2
#: before the first turn: the feeder starts
START_SECONDS = 3.0
#: a command, with its batch and its pause, that purges while there is a file, until it is killed or nothing is due
PURGE = """
import pathlib, time, types
gate, paused = pathlib.Path({gate!r}), pathlib.Path({paused!r})
import django
django.setup()
from django.core.management import call_command
from ocr import retention

def pause(seconds):
    time.sleep(seconds)
    while not gate.exists():
        paused.touch()
        time.sleep(0.005)
    paused.unlink(missing_ok=True)

retention.time = types.SimpleNamespace(monotonic=time.monotonic, sleep=pause)
retention.BATCH_READINGS, retention.PAUSE_TIMES = {batch}, {pause}
call_command("ktp", "purge", "--no-vacuum")
"""


class Kind(NamedTuple):
    """Readings of a batch, and its pause as a multiple of its time."""

    batch: int
    pause: float


class Purge(NamedTuple):
    """A running purge, which goes on while there is the file ``gate``, and shows by ``paused`` that it waits."""

    process: subprocess.Popen[bytes]
    gate: Path
    paused: Path

    def has_stopped(self) -> bool:
        return self.paused.exists() or self.process.poll() is not None

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


class Turn(NamedTuple):
    """A span of time with one kind of purge beside the streams; None with none."""

    kind: Kind | None
    begin: float
    end: float


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=40, help="of each kind (default 40)")
    parser.add_argument("--readings", type=int, default=15_000, help="that are due (default 15000)")
    parser.add_argument(
        "--purge",
        nargs=2,
        action="append",
        required=True,
        metavar=("BATCH", "PAUSE"),
        help="a kind of purge: readings of a batch, and the pause as a multiple of the time that it took",
    )
    options = parser.parse_args(arguments)
    kinds = [Kind(int(batch), float(pause)) for batch, pause in options.purge]
    allow_sockets(2 * STREAMS + 500)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with scaled(folder / "stack", build_tiny_model(folder / "model"), with_worker=False) as stack:
            asyncio.run(measure(stack, kinds, options.readings, options.turns, folder))
    return 0


async def measure(stack: ScaledStack, kinds: Sequence[Kind], readings: int, turns: int, folder: Path) -> None:
    await asyncio.to_thread(fill, stack, readings)
    purges: dict[Kind, Purge] = {}
    try:
        for number, kind in enumerate(kinds):
            purges[kind] = start_purge(stack, kind, folder / f"gate-{number}", folder / f"paused-{number}")
            await until(purges[kind].has_stopped)
        await asyncio.to_thread(feeder, stack, "open", "turns", STREAMS)
        listeners = await listen(stack.port, [attaching(f"turns-{number}") for number in range(STREAMS)])
        seconds = START_SECONDS + (turns + 1) * TURN_SECONDS * (len(kinds) + 1)
        feeding = asyncio.create_task(asyncio.to_thread(feed, stack, round(seconds)))
        await asyncio.sleep(START_SECONDS)
        taken: list[Turn] = []
        erased = dict.fromkeys(kinds, 0)
        for _ in range(turns):
            for drawn in random.sample([None, *kinds], len(kinds) + 1):
                before = left(stack)
                taken.append(await turn(drawn, purges))
                if drawn is not None:
                    erased[drawn] += (count := before - left(stack))
                    if not count:
                        raise RuntimeError(f"the purge of {drawn.batch} readings erased nothing in its turn")
        committed = await feeding
        await all_ended(listeners)
    finally:
        for purge in purges.values():
            purge.end()
    events = sorted(
        (commit, 1000 * (listener.received[index] - commit))
        for listener in listeners
        for index, commit in enumerate(committed, start=1)
    )
    report(taken, events, kinds, {kind: count / (turns * TURN_SECONDS) for kind, count in erased.items()})


def start_purge(stack: ScaledStack, kind: Kind, gate: Path, paused: Path) -> Purge:
    """A process that erases one batch, and waits for its first turn."""
    code = PURGE.format(gate=str(gate), paused=str(paused), batch=kind.batch, pause=kind.pause)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=stack.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return Purge(process, gate, paused)


async def turn(kind: Kind | None, purges: dict[Kind, Purge]) -> Turn:
    """Raises RuntimeError when nothing is due any more."""
    if kind is not None:
        purges[kind].gate.touch()
    begin = time.time()
    await asyncio.sleep(TURN_SECONDS)
    end = time.time()
    if kind is not None:
        purges[kind].gate.unlink()
        # Its last batch belongs to no other turn.
        await until(purges[kind].has_stopped)
        if purges[kind].process.poll() is not None:
            raise RuntimeError("nothing is due any more: take more --readings")
    return Turn(kind, begin + SETTLING_SECONDS, end)


def left(stack: ScaledStack) -> int:
    return int(stack.query("SELECT count(*) FROM ocr_ktpextraction")[0][0])


def feed(stack: ScaledStack, seconds: int) -> list[float]:
    """When each chunk was committed."""
    arguments = ["-m", "benchmarks.feeder", "feed", "turns", str(STREAMS), str(RATE), str(seconds)]
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=stack.env, capture_output=True, text=True, check=True
    )
    times: list[float] = json.loads(done.stdout)
    return times


def report(
    taken: Sequence[Turn], events: Sequence[tuple[float, float]], kinds: Sequence[Kind], rates: dict[Kind, float]
) -> None:
    """The 95th percentile of each kind, and as a ratio to that of the same round without a purge."""
    # None where the feeder, on a busy machine, committed nothing in that time: it begins late.
    p95: dict[Kind | None, list[float | None]] = {kind: [] for kind in (None, *kinds)}
    for each in taken:
        begin, end = (bisect.bisect(events, (at, 0.0)) for at in (each.begin, each.end))
        times = sorted(ms for _, ms in events[begin:end])
        p95[each.kind].append(times[round(0.95 * (len(times) - 1))] if times else None)
    print(f"load {os.getloadavg()[0]:.0f}; without a purge {statistics.median(filter(None, p95[None])):.0f} ms")
    for kind in kinds:
        ratios = [mine / other for mine, other in zip(p95[kind], p95[None], strict=True) if mine and other]
        low, middle, high = statistics.quantiles(ratios, n=4)
        typical = statistics.median(filter(None, p95[kind]))
        print(
            f"{kind.batch} readings, {kind.pause:g} times the pause: {rates[kind]:.0f} readings a second, "
            f"{typical:.0f} ms, {middle:.2f} of that without ({low:.2f} to {high:.2f})"
        )


if __name__ == "__main__":
    sys.exit(main())
