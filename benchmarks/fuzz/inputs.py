"""Looks on while a child feeds a loader: takes down what it says, and notices when it hangs or dies."""

from __future__ import annotations

import dataclasses
import select
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import IO, cast

from benchmarks.fuzz.child import SLOW_SECONDS, input_of
from benchmarks.fuzz.loaders import LOADERS
from benchmarks.servers import cpu_seconds
from tests.live.stack import ROOT

#: without a sign of life: of processor time, and on the clock for one that waits for something
HANGS_AFTER_SECONDS = SLOW_SECONDS
WAITS_AFTER_SECONDS = 20.0
#: shrinking a finding is many inputs, and so is starting
START_SECONDS = 120.0
LOOK_SECONDS = 0.2


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    loader: str
    #: raised, memory, slow, hang or crash
    kind: str
    where: str
    message: str
    number: int


@dataclasses.dataclass(slots=True)
class Tally:
    """Of one loader."""

    counts: Counter[str] = dataclasses.field(default_factory=Counter)
    #: the first of each kind and place, and how often it came
    findings: dict[tuple[str, str], tuple[Finding, int]] = dataclasses.field(default_factory=dict)

    def add(self, finding: Finding) -> bool:
        """Whether it is the first of its kind and place."""
        self.counts[finding.kind] += 1
        first, times = self.findings.get((finding.kind, finding.where), (finding, 0))
        self.findings[finding.kind, finding.where] = first, times + 1
        return not times


def feed(loader: str, *, seed: int, first: int, count: int, folder: Path, end: float) -> Tally:
    """Until ``count`` inputs are read or ``end`` (monotonic) has come. Each kind of finding is kept as a file."""
    tally = Tally()
    last = first + count
    while first < last and time.monotonic() < end:
        first = _feed_one_child(loader, seed, first, last, folder, end, tally)
    return tally


def _feed_one_child(loader: str, seed: int, first: int, last: int, folder: Path, end: float, tally: Tally) -> int:
    """As far as one process comes; the number of the next input."""
    arguments = [loader, str(seed), str(first), str(last - first), str(folder)]
    with (folder / f"{loader}.log").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.fuzz.child", *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            bufsize=0,  # select knows nothing of what a buffer holds
        )
    output = cast("IO[bytes]", child.stdout)
    fate = "crash"
    buffer = b""
    try:
        if not _begins(output):
            raise RuntimeError(f"the child of {loader} does not start: see {folder / loader}.log")
        heard, cpu = time.monotonic(), cpu_seconds(child.pid)
        while first < last and time.monotonic() < end:
            if select.select([output], [], [], LOOK_SECONDS)[0]:
                if not (data := output.read(65536)):
                    break
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    first = _note(loader, line.decode(), folder, seed, tally) + 1
                heard, cpu = time.monotonic(), cpu_seconds(child.pid)
            elif (
                cpu_seconds(child.pid) - cpu > HANGS_AFTER_SECONDS + LOOK_SECONDS
                or time.monotonic() - heard > WAITS_AFTER_SECONDS
            ):
                fate = "hang"
                break
        else:
            return first
    finally:
        child.kill()
        status = child.wait()
        output.close()
    finding = Finding(loader, fate, "" if fate == "hang" else f"status {status}", "", first)
    if tally.add(finding):
        _keep(finding, seed, folder)
    return first + 1


def _begins(output: IO[bytes]) -> bool:
    return bool(select.select([output], [], [], START_SECONDS)[0]) and output.readline() == b"begin\n"


def _note(loader: str, line: str, folder: Path, seed: int, tally: Tally) -> int:
    number, kind, where, message = line.split("\t")
    if kind in ("accepted", "refused"):
        tally.counts[kind] += 1
    else:
        finding = Finding(loader, kind, where, message, int(number))
        # What was raised the child has kept, made smaller.
        if tally.add(finding) and kind != "raised":
            _keep(finding, seed, folder)
    return int(number)


def _keep(finding: Finding, seed: int, folder: Path) -> None:
    loader = LOADERS[finding.loader]
    data = input_of(loader, list(loader.samples()), seed, finding.number)
    (folder / f"{finding.loader}-{finding.kind}-{finding.number}").write_bytes(data)
