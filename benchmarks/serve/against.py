"""Our server, in both shapes, and one of another project: the same weights and prompts, over HTTP, in turns."""

from __future__ import annotations

import contextlib
import itertools
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from benchmarks.engine.models import model_folder
from benchmarks.engine.questions import Media, ask
from benchmarks.engine.runs import LeftOut
from benchmarks.serve.comparison import Cell, Comparison
from benchmarks.serve.peers import PEERS, Load
from benchmarks.serve.servers import start_embedded, start_scaled
from benchmarks.servers import tree_cpu_seconds
from inference.engine.types import GenerationRequest

SHAPES = {"embedded": start_embedded, "scaled": start_scaled}
WARM_UP_TOKENS = 32
#: servers that use no more than this of one core in all, over a sample, are idle
IDLE_CORES, IDLE_SAMPLE_SECONDS = 0.1, 0.5
IDLE_WITHIN_SECONDS = 30.0
#: what a server takes beside the weights
SERVER_BYTES = 1_500_000_000


class Asked(Protocol):
    """A server that can be measured."""

    @property
    def name(self) -> str: ...

    @property
    def pids(self) -> Sequence[int]: ...

    def run(self, requests: Sequence[GenerationRequest], *, every_seconds: float = 0.0) -> dict[str, Any]: ...


class Plan(Protocol):
    """The options of the command line."""

    against: str
    model: str
    dtype: str
    torch_threads: int
    shapes: Sequence[str]
    streams: Sequence[int]
    media: Sequence[Media]
    tokens: int
    rounds: int
    minutes: float


def compare(plan: Plan, image_size: tuple[int, int], settings: Mapping[str, object]) -> Comparison:
    """Start the servers, ours with ``settings``, measure and stop them.

    Raises LeftOut when the peer does not start or memory is short.
    """
    with contextlib.ExitStack() as running:
        tell(f"making the model {plan.model}")
        model = running.enter_context(model_folder(plan.model, device="cpu", dtype=getattr(torch, plan.dtype)))
        check_memory(model, servers=1 + len(plan.shapes))
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="sambung-serve-")))
        load = Load(model.absolute(), plan.dtype, plan.torch_threads, max(plan.streams), plan.tokens)
        tell(f"starting {plan.against}: some minutes the first time, when it is installed or compiles the model")
        peer = running.enter_context(PEERS[plan.against](load, folder))
        tell(f"starting Sambung, {' and '.join(plan.shapes)}")
        ours = [running.enter_context(SHAPES[shape](folder / shape, load.model, settings)) for shape in plan.shapes]
        found = Comparison(
            about={
                "model": plan.model,
                "dtype": plan.dtype,
                "tokens_a_stream": plan.tokens,
                "ours": {name: str(value) for name, value in settings.items()},
                "peer": {"name": peer.name, "version": peer.version, **peer.settings},
            },
            contestants=[*plan.shapes, peer.name],
            peer=peer.name,
        )
        measure([*ours, peer], plan, image_size, found)
    return found


def measure(contestants: Sequence[Asked], plan: Plan, image_size: tuple[int, int], found: Comparison) -> None:
    """All rounds, or as many as begin in time, but one at least. What processes load at first is not measured."""
    deadline = time.monotonic() + 60 * plan.minutes
    for number in range(plan.rounds + 1):
        for at, (media, streams) in enumerate(itertools.product(plan.media, plan.streams)):
            if number > 1 and time.monotonic() > deadline:
                return
            tell(f"{streams} {media}, {f'round {number} of {plan.rounds}' if number else 'not counted'}")
            tokens = plan.tokens if number else min(plan.tokens, WARM_UP_TOKENS)
            # No prompt comes twice, in any round.
            draw = 1000 * number + at
            requests = ask(media, streams, tokens=tokens, draw=draw, image_size=image_size)
            # Who is first in one round is second in the next.
            turn = number % len(contestants)
            for contestant in [*contestants[turn:], *contestants[:turn]]:
                if (contestant.name, media) in found.failed:
                    continue
                try:
                    wait_until_idle([pid for each in contestants for pid in each.pids])
                except RuntimeError as error:
                    tell(f"{error}; no more rounds")
                    return
                try:
                    run = contestant.run(requests)
                except RuntimeError as error:
                    found.failed[contestant.name, media] = str(error)
                    continue
                if number:
                    found.add(number, Cell(contestant.name, media, streams), run)


def wait_until_idle(pids: Sequence[int]) -> None:
    """Until these processes and those that they started hardly compute.

    A server that waits busily goes on for about a second after its last answer, and would take a core from the next.
    Raises RuntimeError when they do not come to rest.
    """
    deadline = time.monotonic() + IDLE_WITHIN_SECONDS
    while pids:
        if time.monotonic() > deadline:
            raise RuntimeError(f"a server still computes {IDLE_WITHIN_SECONDS:.0f} s after its last answer")
        before = sum(map(tree_cpu_seconds, pids))
        time.sleep(IDLE_SAMPLE_SECONDS)
        if sum(map(tree_cpu_seconds, pids)) - before <= IDLE_CORES * IDLE_SAMPLE_SECONDS:
            return


def check_memory(model: Path, *, servers: int) -> None:
    """Raises LeftOut when the weights do not fit as many times as there are servers."""
    weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    needed = servers * (weights + SERVER_BYTES)
    free = 1024 * int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0])
    if needed > free:
        raise LeftOut(
            f"{servers} servers need some {needed / 1e9:.0f} GB, and {free / 1e9:.0f} GB are free;"
            " --shapes scaled takes one of ours away, --dtype bfloat16 half of the weights"
        )


def tell(text: str) -> None:
    """Show the progress: starting takes long."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)
