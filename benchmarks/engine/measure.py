"""Runs the contestants in turns, so that a noisy moment of the machine hits all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.engine.questions import Media
from benchmarks.engine.runs import Contestant, Run
from inference.engine.types import GenerationRequest

AT_ONCE, STAGGERED = "at once", "staggered"
#: what is left out would have taken more than this many times the patience
FAR_TOO_LONG = 2
WARM_UP_TOKENS = 8
#: a single request is short, so noise has a large share in it: it is measured in this many times the rounds
SHORT_RUN_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Cell:
    """What is measured several times and reported once."""

    contestant: str
    arrivals: str
    media: Media
    rows: int


@dataclass(slots=True)
class Measurements:
    #: a run a round; None where the contestant had no time for the round
    runs: dict[Cell, list[Run | None]] = field(default_factory=dict)
    #: contestant or cell → why there is nothing
    left_out: dict[str, str] = field(default_factory=dict)
    #: contestant and what it was asked about → the error, after which it was asked no more
    failed: dict[tuple[str, Media], str] = field(default_factory=dict)

    def of(self, contestant: str, arrivals: str, media: Media, rows: int) -> list[Run | None]:
        return self.runs.get(Cell(contestant, arrivals, media, rows), [])


@dataclass(frozen=True, slots=True)
class Plan:
    rows: Sequence[int]
    media: Sequence[Media]
    rounds: int
    tokens: int
    #: as many tokens before the clock runs; on a GPU shapes are compiled and captured then
    warm_up_tokens: int
    #: seconds that one contestant may take for one cell before it is repeated no more
    patience: float
    #: monotonic time after which nothing is begun
    deadline: float


Asking = Callable[[Media, int, int, int], list[GenerationRequest]]


def measure(contestants: Sequence[Contestant], plan: Plan, ask: Asking, tell: Callable[[str], None]) -> Measurements:
    """``ask(media, rows, tokens, draw)`` makes the requests; ``tell`` hears what is going on."""
    found = Measurements()
    spans: dict[Media, float] = {}
    draw = 0
    for rows in plan.rows:
        for arrivals in (AT_ONCE, STAGGERED) if rows > 1 else (AT_ONCE,):
            racing = [c for c in contestants if arrivals == AT_ONCE or c.takes_arrivals]
            rounds = plan.rounds * (SHORT_RUN_ROUNDS if rows == 1 else 1)
            for number in range(rounds):
                for media in plan.media:
                    tell(f"{rows} {media} requests {arrivals}, round {number + 1} of {rounds}")
                    draw += 1
                    # All arrive within the time that one takes alone.
                    span = spans[media] if arrivals == STAGGERED else 0.0
                    offsets = [span * row / rows for row in range(rows)]
                    for contestant in [*racing[number % len(racing) :], *racing[: number % len(racing)]]:
                        cell = Cell(contestant.name, arrivals, media, rows)
                        run = None
                        if (cell.contestant, media) in found.failed:
                            pass
                        elif reason := _why_not(found, plan, cell, contestant.batches):
                            found.left_out.setdefault(f"{cell.contestant}, {rows} {media} {arrivals}", reason)
                        elif _has_time(found, plan, cell, contestant.batches):
                            try:
                                if number == 0 and arrivals == AT_ONCE:
                                    contestant.run(ask(media, rows, plan.warm_up_tokens, -draw), [0.0] * rows)
                                run = contestant.run(ask(media, rows, plan.tokens, draw), offsets)
                            except Exception as error:
                                found.failed.setdefault((contestant.name, media), f"{type(error).__name__}: {error}")
                        found.runs.setdefault(cell, []).append(run)
        if rows == 1:
            for media in plan.media:
                alone = [r.seconds for c in contestants for r in found.of(c.name, AT_ONCE, media, 1) if r is not None]
                spans[media] = sorted(alone)[len(alone) // 2]
    return found


def _why_not(found: Measurements, plan: Plan, cell: Cell, batches: bool) -> str:
    """Why the cell is not begun; empty when it is."""
    if found.runs.get(cell):
        return ""
    if time.monotonic() > plan.deadline:
        return "the time was up"
    if batches:
        return ""
    before = max((rows for rows in plan.rows if rows < cell.rows), default=0)
    # Nothing to go by for the smallest; nothing but the at-once runs for the first staggered ones.
    last = found.runs.get(Cell(cell.contestant, AT_ONCE, cell.media, before), [])
    if before and not any(last):
        return "fewer rows took too long"
    expected = max((run.seconds * cell.rows / before for run in last if run is not None), default=0.0)
    if expected > FAR_TOO_LONG * plan.patience:
        return f"it would take some {expected:.0f} s"
    return ""


def _has_time(found: Measurements, plan: Plan, cell: Cell, batches: bool) -> bool:
    runs = found.runs.get(cell, [])
    taken = sum(run.seconds for run in runs if run is not None)
    in_time = batches or taken < plan.patience
    return not runs or (None not in runs and in_time and time.monotonic() < plan.deadline)
