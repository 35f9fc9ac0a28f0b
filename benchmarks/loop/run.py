"""A run: every request after the other, each watched until the server is calm again."""

from __future__ import annotations

import argparse
import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Self, cast

from benchmarks.loop import sender
from benchmarks.loop.bodies import KEY
from benchmarks.loop.hostile import Hostile
from benchmarks.loop.observer import Seen
from benchmarks.loop.rates import FED_NAME
from benchmarks.loop.report import Quiet, Row
from benchmarks.loop.stack import Memory, serving
from inference.engine.tiny_model import build_tiny_model
from tests.live.stack import ROOT, Stack

#: before each request, what is measured as quiet
QUIET_SECONDS = 1.0
#: and before the first
FIRST_QUIET_SECONDS = 4.0
#: what a request leaves behind still counts as its own: so long at least, and until probes are quick again
AFTER_SECONDS = 0.6
CALM_SECONDS = 0.4
CALM_MS = 50.0
STORM_SECONDS = 60.0
#: memory that comes back may take this long, and this much may stay
RETURN_SECONDS = 3.0
RETURNED_MB = 32.0
#: a server that has kept more, or has not answered, would give the next request's figures: that one gets a new server
SPOILED_MB = 128.0
START_SECONDS = 60.0


class Program:
    """A module of this package as a process that is asked and answers in lines."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.loop.{module}", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._input = cast("IO[str]", self._process.stdin)
        self._output = cast("IO[str]", self._process.stdout)

    def __enter__(self) -> Self:
        if self.answer(START_SECONDS) != "ready":
            self.__exit__()
            raise RuntimeError("a client of the benchmark did not start; see above")
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.communicate()

    def say(self, line: str) -> None:
        self._input.write(f"{line}\n")
        self._input.flush()

    def answer(self, seconds: float) -> str:
        """The next line; empty when it does not come in time, or the process has ended."""
        ready, _, _ = select.select([self._output], [], [], seconds)
        return self._output.readline().strip() if ready else ""


class Observer(Program):
    def __init__(self, port: int, streams: int) -> None:
        super().__init__("observer", str(port), KEY, *(f"{FED_NAME}-{number}" for number in range(streams)))

    def seen(self, start: float, end: float) -> Seen:
        self.say(f"{start} {end}")
        return Seen(**json.loads(self.answer(sender.LONGEST_SECONDS)))


def run(options: argparse.Namespace, hostiles: Sequence[Hostile], folder: Path) -> Iterator[Row | Quiet]:
    """What each request did, and last what the quiet was in between. A server that a request spoils is replaced."""
    end = time.monotonic() + 60 * options.minutes
    model = build_tiny_model(folder / "model")
    quiet = Quiet()
    left = list(hostiles)
    starts = 0
    while left and time.monotonic() < end:
        starts += 1
        server = serving(folder / f"server-{starts}", model, streams=options.streams, is_scaled=options.scaled)
        with server as stack, Observer(stack.port, options.streams) as observer, Memory(stack) as memory:
            rest(observer, quiet, FIRST_QUIET_SECONDS)
            while left and time.monotonic() < end and _is_alive(stack):
                row = _measure(left.pop(0), stack, observer, memory, quiet)
                yield row
                if row.kept_mb > SPOILED_MB or not row.is_answered or row.streams_ended:
                    break
    for hostile in left:
        yield Row(hostile.name, hostile.what, faults=["not run: the time is over"])
    yield quiet


def rest(observer: Observer, quiet: Quiet, seconds: float) -> None:
    start = time.time()
    time.sleep(seconds)
    quiet.add(observer.seen(start, time.time()))


def _measure(hostile: Hostile, stack: Stack, observer: Observer, memory: Memory, quiet: Quiet) -> Row:
    with Program("sender", str(stack.port), hostile.name) as client:
        rest(observer, quiet, QUIET_SECONDS)
        before = memory.forget_peak()
        start = time.time()
        client.say("go")
        found: dict[str, Any] = json.loads(client.answer(sender.LONGEST_SECONDS + 30) or '{"statuses":[],"seconds":0}')
        seen = _until_calm(observer, start, time.time())
    peak = memory.peak_mb - before
    deadline = time.monotonic() + RETURN_SECONDS
    while (kept := memory.now_mb() - before) > RETURNED_MB and time.monotonic() < deadline:
        time.sleep(0.1)
    row = Row(hostile.name, hostile.what, **found, peak_mb=peak, kept_mb=kept)
    row.add(seen)
    row.judge(hostile, is_alive=_is_alive(stack))
    return row


def _until_calm(observer: Observer, start: float, answered: float) -> Seen:
    """Everything from the start until a while after the answer in which no probe was slow."""
    time.sleep(AFTER_SECONDS)
    while time.time() < answered + STORM_SECONDS:
        now = time.time()
        last = observer.seen(now - CALM_SECONDS, now)
        if max(last.health, default=CALM_MS) < CALM_MS:
            break
        time.sleep(CALM_SECONDS / 2)
    return observer.seen(start, time.time())


def _is_alive(stack: Stack) -> bool:
    return all(process.is_running() for process in stack.processes.values())
