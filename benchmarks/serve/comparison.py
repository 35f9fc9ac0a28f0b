"""What two kinds of servers did with the same requests, in the same rounds: ratios, and a table of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from benchmarks.serve.clients import CLIENTS

REASONING_TOKENS = ("<think>", "</think>")


class Cell(NamedTuple):
    """What was measured together."""

    contestant: str
    media: str
    streams: int


@dataclass(slots=True)
class Comparison:
    """Ours beside a peer. A run has ``rate`` (tokens a second), ``first_seconds``, ``texts`` and ``cores``."""

    about: dict[str, Any]
    #: in the order of the table, the peer among them
    contestants: Sequence[str]
    peer: str
    runs: dict[Cell, list[dict[str, Any]]] = field(default_factory=dict)
    #: contestant and medium → why it is asked about it no more
    failed: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, number: int, cell: Cell, run: dict[str, Any]) -> None:
        """The run of a round, which says that it is of it: a contestant may have missed others."""
        self.runs.setdefault(cell, []).append({**run, "round": number})

    def figures(self) -> dict[str, Any]:
        """Medians over the rounds. What is set against the peer is set against it within a round."""
        return {
            "about": self.about,
            "cells": [self._figures(cell, runs) for cell, runs in sorted(self.runs.items(), key=self._place)],
            "failed": [
                {"contestant": name, "media": media, "reason": reason} for (name, media), reason in self.failed.items()
            ],
        }

    def _place(self, item: tuple[Cell, Any]) -> tuple[bool, int, int]:
        cell, _ = item
        return cell.media != "text", cell.streams, self.contestants.index(cell.contestant)

    def _figures(self, cell: Cell, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
        firsts = sorted(1000 * seconds for run in runs for seconds in run["first_seconds"])
        figures = {
            **cell._asdict(),
            "rounds": len(runs),
            "tokens_per_second": statistics.median(run["rate"] for run in runs),
            "first_text_ms": {"p50": statistics.median(firsts), "p95": firsts[round(0.95 * (len(firsts) - 1))]},
            "tokens_per_core_second": statistics.median(_per_core(run) for run in runs),
            "cores": {name: statistics.median(run["cores"][name] for run in runs) for name in runs[0]["cores"]},
        }
        theirs = {run["round"]: run for run in self.runs.get(cell._replace(contestant=self.peer), [])}
        pairs = [(run, theirs[run["round"]]) for run in runs if run["round"] in theirs]
        if cell.contestant == self.peer or not pairs:
            return figures
        texts = [both for ours, other in pairs for both in zip(ours["texts"], other["texts"], strict=True)]
        return figures | {
            "rate_to_peer": _spread([ours["rate"] / other["rate"] for ours, other in pairs]),
            "per_core_to_peer": _spread([_per_core(ours) / _per_core(other) for ours, other in pairs]),
            "first_text_to_peer": _spread([_first(ours) / _first(other) for ours, other in pairs]),
            "first_text_after_peer_ms": _spread([1000 * (_first(ours) - _first(other)) for ours, other in pairs]),
            "texts": {"compared": len(texts), "equal": sum(_alike(*both) for both in texts)},
        }


def _first(run: dict[str, Any]) -> float:
    return statistics.median(run["first_seconds"])


def _alike(ours: str, other: str) -> bool:
    """Whether the tokens were the same, as far as the texts show.

    Servers differ in what they make of NUL, of half a character at the end, and of the tokens around reasoning, which a
    model with random weights writes anywhere.
    """
    return _comparable(ours) == _comparable(other)


def _comparable(text: str) -> str:
    for token in REASONING_TOKENS:
        text = text.replace(token, "")
    return text.replace("\0", "\ufffd").rstrip("\ufffd")


def _per_core(run: dict[str, Any]) -> float:
    """Tokens for each second of processor time of the server, of which a busy machine takes nothing away."""
    return run["rate"] / sum(share for name, share in run["cores"].items() if name != CLIENTS)


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def table(report: dict[str, Any]) -> str:
    """One line a contestant, medium and number of streams."""
    about = report["about"]
    lines = [
        f"{about['model']}, {about['dtype']}, {about['tokens_a_stream']} tokens a stream; settings beside the defaults",
        f"  ours: {_settings(about['ours'])}",
        f"  peer: {_settings(about['peer'])}",
        "",
        f"{'':>12}{'':20}{'tokens/s':>10}{'to peer':>9}{'least-most':>13}{'first p50':>11}{'p95':>8}{'to peer':>9}"
        f"{'least-most':>13}{'after it':>10}{'same texts':>12}{'a core-s':>10}{'to peer':>9}  cores",
    ]
    for cell in report["cells"]:
        first = cell["first_text_ms"]
        cores = "  ".join(f"{name} {share:.2f}" for name, share in cell["cores"].items())
        asked = f"{cell['streams']} {cell['media']}"
        if "rate_to_peer" in cell:
            rate, to_first, after = cell["rate_to_peer"], cell["first_text_to_peer"], cell["first_text_after_peer_ms"]
            texts = f"{cell['texts']['equal']} of {cell['texts']['compared']}"
            rates, firsts = _ratio(rate), f"{_ratio(to_first)}{after['median']:>7.0f} ms{texts:>12}"
            per_core = f"{cell['per_core_to_peer']['median']:>9.2f}"
        else:
            rates, firsts, per_core = f"{'':22}", f"{'':44}", f"{'':9}"
        lines.append(
            f"{asked:>12}  {cell['contestant']:18}{cell['tokens_per_second']:>10,.0f}{rates}"
            f"{first['p50']:>8.0f} ms{first['p95']:>5.0f} ms{firsts}"
            f"{cell['tokens_per_core_second']:>10,.0f}{per_core}  {cores}"
        )
    lines += [f"\n{failed['contestant']}, {failed['media']}: {failed['reason']}" for failed in report["failed"]]
    return "\n".join(lines)


def _ratio(spread: dict[str, float]) -> str:
    return f"{spread['median']:>9.2f}{spread['least']:>8.2f}-{spread['most']:.2f}"


def _settings(settings: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items())
