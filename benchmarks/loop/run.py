"""A run: every request after the other, each watched until the server is calm again."""

from __future__ import annotations

import argparse
import contextlib
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
from benchmarks.loop.plan import Plan
from benchmarks.loop.rates import FED_NAME
from benchmarks.loop.report import Quiet, Row
from benchmarks.loop.stack import Memory, serving
from inference.tiny_models.vision import build_tiny_model
from tests.live.stack import ROOT

#: seconds before each request that are measured as quiet
QUIET_SECONDS = 1.0
#: the same before the first request
FIRST_QUIET_SECONDS = 4.0
#: after-effects count for the request for at least this many seconds, and until probes are quick again
AFTER_SECONDS = 0.6
CALM_SECONDS = 0.4
#: share of the longest allowed probe below which the server counts as calm
CALM_PART = 0.5
STORM_SECONDS = 60.0
#: how long freed memory may take to be returned, and how many MB may stay
RETURN_SECONDS = 3.0
RETURNED_MB = 32.0
#: a server that keeps more MB, or has not answered, would distort the next request's figures, so it is replaced
SPOILED_MB = 128.0
START_SECONDS = 60.0


class Program:
    """A module as a process that is asked and answers in lines."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
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
        super().__init__(
            "benchmarks.loop.observer", str(port), KEY, *(f"{FED_NAME}-{number}" for number in range(streams))
        )

    def seen(self, start: float, end: float) -> Seen:
        self.say(f"{start} {end}")
        return Seen(**json.loads(self.answer(sender.MAX_SECONDS)))


class Neighbours(Program):
    """Others who ask for little at the same time; see ``Plan.neighbours``."""

    def __init__(self, module: str, port: int) -> None:
        super().__init__(module, str(port))

    def ask(self, after_seconds: float) -> None:
        self.say(str(after_seconds))

    def answered(self) -> dict[str, tuple[int, float]]:
        """What each got to the last ``ask``: status and seconds."""
        found = json.loads(self.answer(sender.MAX_SECONDS + 30) or "{}")
        return {name: (status, seconds) for name, (status, seconds) in found.items()}


def run(plan: Plan, options: argparse.Namespace, hostiles: Sequence[Hostile], folder: Path) -> Iterator[Row | Quiet]:
    """What each request did, and last what the quiet was in between. A server that a request spoils is replaced."""
    end = time.monotonic() + 60 * options.minutes
    model = build_tiny_model(folder / "model")
    quiet = Quiet()
    left = list(hostiles)
    starts = 0
    while left and time.monotonic() < end:
        starts += 1
        with Subject(plan, options, folder / f"server-{starts}", model, quiet) as subject:
            while left and time.monotonic() < end and subject.is_alive():
                hostile = left.pop(0)
                row = subject.measure(hostile)
                yield row
                if row.kept_mb > SPOILED_MB or not row.is_answered or row.streams_ended or hostile.spoils:
                    break
    for hostile in left:
        yield Row(hostile.name, hostile.what, faults=["not run: the time is over"])
    yield quiet


class Subject:
    """A server that is measured, and those who look at it."""

    def __init__(self, plan: Plan, options: argparse.Namespace, folder: Path, model: Path, quiet: Quiet) -> None:
        self._plan = plan
        self._options = options
        self._folder = folder
        self._model = model
        self._quiet = quiet
        self._neighbours: Neighbours | None = None
        self._running = contextlib.ExitStack()

    def __enter__(self) -> Self:
        options, plan = self._options, self._plan
        with contextlib.ExitStack() as starting:
            server = serving(
                self._folder,
                self._model,
                streams=options.streams,
                is_scaled=options.scaled,
                embedded=plan.embedded,
            )
            self._stack = starting.enter_context(server)
            self._observer = starting.enter_context(Observer(self._stack.port, options.streams))
            if plan.neighbours is not None:
                self._neighbours = starting.enter_context(Neighbours(plan.neighbours, self._stack.port))
                # The first request of a kind also loads modules, so the second is the one that is compared.
                for _ in range(2):
                    self._neighbours.ask(0)
                    self._quiet.beside = self._neighbours.answered()
            self._memory = starting.enter_context(Memory(self._stack, kind=plan.memory, limit_mb=plan.memory_limit_mb))
            self._rest(FIRST_QUIET_SECONDS)
            self._running = starting.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._running.close()

    def is_alive(self) -> bool:
        return all(process.is_running() for process in self._stack.processes.values())

    def _rest(self, seconds: float) -> None:
        start = time.time()
        time.sleep(seconds)
        self._quiet.add(self._observer.seen(start, time.time()))

    def measure(self, hostile: Hostile) -> Row:
        """Send the request and watch until the server is calm again."""
        memory, neighbours = self._memory, self._neighbours
        sending = Program("benchmarks.loop.sender", self._plan.catalogue, str(self._stack.port), hostile.name)
        with sending as client:
            self._rest(QUIET_SECONDS)
            before = memory.forget_peak()
            start = time.time()
            client.say("go")
            if neighbours is not None:
                neighbours.ask(hostile.neighbours_after)
            found: dict[str, Any] = json.loads(client.answer(sender.MAX_SECONDS + 30) or '{"statuses":[],"seconds":0}')
            beside = {} if neighbours is None else neighbours.answered()
            seen = self._until_calm(start, time.time())
        peak = memory.peak_mb - before
        deadline = time.monotonic() + RETURN_SECONDS
        while (kept := memory.now_mb() - before) > RETURNED_MB and time.monotonic() < deadline:
            time.sleep(0.1)
        row = Row(hostile.name, hostile.what, **found, peak_mb=peak, kept_mb=kept, beside=beside)
        row.add(seen)
        if memory.is_over_limit:
            row.faults.append(f"killed over {self._plan.memory_limit_mb:g} MB")
        row.judge(hostile, self._plan.goals, self._quiet, is_alive=self.is_alive())
        return row

    def _until_calm(self, start: float, answered: float) -> Seen:
        """Everything from the start until a while after the answer in which no probe was slow."""
        calm_ms = CALM_PART * self._plan.goals.health_ms
        time.sleep(AFTER_SECONDS)
        while time.time() < answered + STORM_SECONDS and self.is_alive():
            now = time.time()
            last = self._observer.seen(now - CALM_SECONDS, now)
            if max(last.health, default=calm_ms) < calm_ms:
                break
            time.sleep(CALM_SECONDS / 2)
        return self._observer.seen(start, time.time())
