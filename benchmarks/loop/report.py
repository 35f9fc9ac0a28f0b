"""What was seen, judged and shown."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from benchmarks.loop.hostile import LEFT, Hostile
from benchmarks.loop.observer import Seen


@dataclasses.dataclass(frozen=True, slots=True)
class Goals:
    """Limits of a request's effect on other callers, and of its own time. None: not judged."""

    #: maximum milliseconds that a probe may wait
    health_ms: float = 100.0
    #: maximum seconds until the last answer begins, including those of the neighbours
    seconds: float | None = None
    #: highest p99 of the streams' gaps, as a multiple of the quiet one
    gaps_ratio: float | None = None


#: factor by which the p99 of the streams' gaps may exceed the quiet one before it is marked
GAPS_RATIO = 2.0


@dataclasses.dataclass(slots=True)
class Quiet:
    """Between the requests, in milliseconds: every probe and every gap."""

    health: list[float] = dataclasses.field(default_factory=list)
    gaps: list[float] = dataclasses.field(default_factory=list)
    #: as in ``Row``: the neighbours' answers when no other requests are sent
    beside: dict[str, tuple[int, float]] = dataclasses.field(default_factory=dict)

    def add(self, seen: Seen) -> None:
        self.health += seen.health
        self.gaps += seen.gaps

    def figures(self) -> dict[str, float]:
        return {
            "health_p50_ms": statistics.median(self.health),
            "health_p99_ms": p99(self.health),
            "health_worst_ms": max(self.health),
            "gap_p50_ms": statistics.median(self.gaps),
            "gap_p99_ms": p99(self.gaps),
            "gap_worst_ms": max(self.gaps),
        }


@dataclasses.dataclass(slots=True)
class Row:
    """One request. Times in milliseconds but for ``seconds``, memory in MB of growth."""

    name: str
    what: str
    statuses: list[int] = dataclasses.field(default_factory=list)
    #: until the last answer began
    seconds: float = 0.0
    health_p99_ms: float = 0.0
    health_worst_ms: float = 0.0
    gap_p99_ms: float = 0.0
    gap_worst_ms: float = 0.0
    own_delay_ms: float = 0.0
    peak_mb: float = 0.0
    kept_mb: float = 0.0
    streams_ended: int = 0
    #: or its client has left by itself
    is_answered: bool = True
    #: what neighbours asked at the same time: name → status and seconds
    beside: dict[str, tuple[int, float]] = dataclasses.field(default_factory=dict)
    faults: list[str] = dataclasses.field(default_factory=list)

    def add(self, seen: Seen) -> None:
        self.health_p99_ms, self.health_worst_ms = p99(seen.health), max(seen.health, default=0.0)
        self.gap_p99_ms, self.gap_worst_ms = p99(seen.gaps), max(seen.gaps, default=0.0)
        self.own_delay_ms = seen.own_delay
        self.streams_ended = seen.ended
        if seen.unanswered:
            self.faults.append(f"{seen.unanswered} probes without an answer")
        if seen.ended:
            self.faults.append(f"{seen.ended} streams ended")

    def judge(self, hostile: Hostile, goals: Goals, quiet: Quiet, *, is_alive: bool) -> None:
        """Say what is not as it should be."""
        if not is_alive:
            self.faults.append("the server died")
        if self.health_worst_ms >= goals.health_ms:
            self.faults.append("health")
        if self.peak_mb > hostile.memory_mb:
            self.faults.append(f"memory over {hostile.memory_mb} MB")
        if not self.statuses or set(self.statuses) - hostile.expect:
            self.faults.append("status")
        if goals.seconds is not None and self.seconds > goals.seconds:
            self.faults.append(f"over {goals.seconds:g} s")
        if goals.gaps_ratio is not None and self.gap_p99_ms > goals.gaps_ratio * p99(quiet.gaps):
            self.faults.append("gaps")
        for name, (status, seconds) in self.beside.items():
            if status != quiet.beside[name][0] or (goals.seconds is not None and seconds > goals.seconds):
                self.faults.append(f"{name} beside it")
        self.is_answered = bool(self.statuses) and (LEFT in hostile.expect or LEFT not in self.statuses)

    def status(self) -> str:
        counts = Counter("none" if status == LEFT else str(status) for status in self.statuses)
        return " ".join(status if count == 1 else f"{count}×{status}" for status, count in counts.items()) or "none"


def p99(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[round(0.99 * (len(ordered) - 1))] if ordered else 0.0


def as_json(rows: Sequence[Row], quiet: Quiet, about: dict[str, Any]) -> dict[str, Any]:
    figures = quiet.figures()
    changed = [row.name for row in rows if row.gap_p99_ms > GAPS_RATIO * figures["gap_p99_ms"]]
    return {
        "about": about,
        "quiet": figures | {"beside": quiet.beside},
        "requests": [dataclasses.asdict(row) for row in rows],
        "with_faults": [row.name for row in rows if row.faults],
        "with_wider_gaps": changed,
    }


def header(beside: Sequence[str]) -> str:
    """``beside`` names the neighbours whose seconds are shown."""
    return (
        f"{'request':32}{'status':>12}{'s':>7}{'health p99':>12}{'worst':>8}{'gaps p99':>10}{'worst':>8}"
        f"{'own':>6}{'peak MB':>9}{'kept':>7}{''.join(f'{name:>6}' for name in beside)}  faults"
    )


def line(row: Row) -> str:
    beside = "".join(f"{seconds:>6.1f}" for _, seconds in row.beside.values())
    return (
        f"{row.name:32}{row.status():>12}{row.seconds:>7.1f}{row.health_p99_ms:>12.0f}{row.health_worst_ms:>8.0f}"
        f"{row.gap_p99_ms:>10.0f}{row.gap_worst_ms:>8.0f}{row.own_delay_ms:>6.0f}{row.peak_mb:>9.0f}"
        f"{row.kept_mb:>7.0f}{beside}  {', '.join(row.faults)}"
    )


def summary(report: dict[str, Any]) -> str:
    quiet = report["quiet"]
    return "\n".join(
        [
            "",
            f"quiet: health p50 {quiet['health_p50_ms']:.0f}, p99 {quiet['health_p99_ms']:.0f}, worst"
            f" {quiet['health_worst_ms']:.0f} ms; gaps p50 {quiet['gap_p50_ms']:.0f}, p99 {quiet['gap_p99_ms']:.0f},"
            f" worst {quiet['gap_worst_ms']:.0f} ms"
            + "".join(f"; {name} {status} in {seconds:.1f} s" for name, (status, seconds) in quiet["beside"].items()),
            f"{len(report['requests'])} requests, {len(report['with_faults'])} with a fault,"
            f" {len(report['with_wider_gaps'])} with a p99 of the gaps over {GAPS_RATIO:g} times the quiet one",
        ]
    )
