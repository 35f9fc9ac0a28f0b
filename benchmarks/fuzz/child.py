"""Feeds one loader, and prints a line with the result of each input. It may hang or die: its parent watches it.

    python -m benchmarks.fuzz.child LOADER SEED FIRST COUNT FOLDER

A line is the input's number, ``accepted``, ``refused`` or the kind of a finding, where it comes from and what it says.
``begin`` tells that inputs follow.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple

from benchmarks.fuzz.loaders import LOADERS, Loader
from benchmarks.fuzz.mutate import mutate, shrink
from benchmarks.servers import forget_peak_memory, memory_kb
from tests.live.stack import ROOT

#: of processor time, for one input
SLOW_SECONDS = 2.0
#: by which the process may have grown since its start, at the peak
GROWN_MB = 512
#: of address space beyond what it has at its start: beyond this there is no memory, and the machine is not hurt
ADDRESS_SPACE_MB = 4096
SHRINK_TRIES = 300


def input_of(loader: Loader, samples: list[bytes], seed: int, number: int) -> bytes:
    """Input ``number`` of a seed: always the same."""
    return mutate(random.Random(f"{seed} {loader.name} {number}"), samples, loader.tokens)


class Outcome(NamedTuple):
    """What became of an input. Findings of the same kind from the same place count as one."""

    kind: str
    where: str = ""
    message: str = ""


def outcome(loader: Loader, data: bytes) -> Outcome:
    started = time.process_time()
    try:
        kind = "accepted" if loader.read(data) else "refused"
    except MemoryError:
        return Outcome("memory", "MemoryError")
    except Exception as exc:
        return Outcome("raised", f"{type(exc).__name__} at {_place(exc)}", str(exc)[:120])
    took = time.process_time() - started
    return Outcome("slow", kind, f"{took:.1f} s") if took > SLOW_SECONDS else Outcome(kind)


def _place(exc: BaseException) -> str:
    """The innermost line of this project; the rest is libraries'."""
    frames = [
        f"{Path(frame.filename).relative_to(ROOT)}:{frame.lineno}"
        for frame in traceback.extract_tb(exc.__traceback__)
        if Path(frame.filename).is_relative_to(ROOT) and ".venv" not in frame.filename
    ]
    return frames[-1] if frames else "nowhere"


def main(name: str, seed: int, first: int, count: int, folder: Path) -> None:
    os.nice(5)
    loader = LOADERS[name]
    samples = list(loader.samples())
    for sample in samples:
        loader.read(sample)  # what is loaded for the first of its kind is no input's cost
    me = os.getpid()
    at_start = memory_kb(me)
    most = memory_kb(me, "VmSize") * 1024 + ADDRESS_SPACE_MB * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    seen: set[str] = set()
    print("begin", flush=True)
    for number in range(first, first + count):
        data = input_of(loader, samples, seed, number)
        found = outcome(loader, data)
        if (grown := (memory_kb(me, "VmHWM") - at_start) / 1024) > GROWN_MB:
            found = Outcome("memory", f"over {GROWN_MB} MB", f"{grown:.0f} MB")
            forget_peak_memory(me)
            at_start = max(at_start, memory_kb(me))
        if found.kind == "raised" and found.where not in seen:
            seen.add(found.where)
            (folder / f"{name}-raised-{number}").write_bytes(_shrunk(loader, data, found))
        print(number, *(word.encode("unicode_escape").decode() for word in found), sep="\t", flush=True)


def _shrunk(loader: Loader, data: bytes, found: Outcome) -> bytes:
    return shrink(data, lambda shorter: outcome(loader, shorter)[:2] == found[:2], tries=SHRINK_TRIES)


if __name__ == "__main__":
    name, *numbers, folder = sys.argv[1:]
    seed, first, count = map(int, numbers)
    main(name, seed, first, count, Path(folder))
