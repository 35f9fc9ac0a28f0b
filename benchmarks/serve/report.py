"""What a run found: as values for JSON, and as a table of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

#: where the tests' servers have other values than a deployment: the defaults
SETTINGS: dict[str, object] = {"SESSION_LEASE_SECONDS": 15, "SWEEP_SECONDS": 2, "TORCH_THREADS": 1}
ENGINE = "engine"
#: at 8 streams, scaled, and at every number of streams
RATE_TARGET, FIRST_TARGET_MS = 0.85, 25.0


class Cell(NamedTuple):
    """What was measured together."""

    contestant: str
    streams: int
    #: between two arrivals; 0: all at once
    every_ms: float


Runs = Mapping[Cell, Sequence[dict[str, Any]]]


def figures(runs: Runs, about: dict[str, Any]) -> dict[str, Any]:
    """Medians over the rounds; what is set against the engine is set against it within its round."""
    cells = []
    for cell, found in runs.items():
        base = runs[cell._replace(contestant=ENGINE)]
        ratios = [run["rate"] / engine["rate"] for run, engine in zip(found, base, strict=True)]
        later = [
            1000 * (statistics.median(run["first_seconds"]) - statistics.median(engine["first_seconds"]))
            for run, engine in zip(found, base, strict=True)
        ]
        firsts = sorted(1000 * seconds for run in found for seconds in run["first_seconds"])
        cells.append(
            {
                **cell._asdict(),
                "rounds": len(found),
                "tokens_per_second": statistics.median(run["rate"] for run in found),
                "to_engine": {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)},
                "first_token_ms": {
                    "p50": statistics.median(firsts),
                    "p95": firsts[round(0.95 * (len(firsts) - 1))],
                },
                "first_token_after_engine_ms": statistics.median(later),
                "cores": {
                    process: statistics.median(run["cores"][process] for run in found) for process in found[0]["cores"]
                },
            }
        )
    return {"about": about, "cells": cells, "targets": {"to_engine": RATE_TARGET, "first_token_ms": FIRST_TARGET_MS}}


def table(report: dict[str, Any]) -> str:
    """One line a contestant and number of streams."""
    settings = " ".join(f"{name}={value}" for name, value in report["about"]["settings"].items())
    lines = [
        f"{report['about']['tokens_a_stream']} tokens a stream, {report['about']['media']}; settings, the others by"
        f" default: {settings}",
        "",
        f"{'streams':>7}{'every':>8}  {'':26}{'tokens/s':>10}{'to engine':>11}{'least-most':>13}"
        f"{'first p50':>11}{'p95':>8}{'after it':>10}  cores",
    ]
    for cell in report["cells"]:
        ratio, first = cell["to_engine"], cell["first_token_ms"]
        every = f"{cell['every_ms']:.0f} ms" if cell["every_ms"] else "at once" if cell["streams"] > 1 else ""
        cores = "  ".join(f"{name} {share:.2f}" for name, share in cell["cores"].items())
        lines.append(
            f"{cell['streams']:>7}{every:>8}  {cell['contestant']:26}{cell['tokens_per_second']:>10,.0f}"
            f"{ratio['median']:>11.2f}{ratio['least']:>8.2f}-{ratio['most']:.2f}"
            f"{first['p50']:>8.0f} ms{first['p95']:>5.0f} ms"
            f"{cell['first_token_after_engine_ms']:>7.0f} ms  {cores}"
        )
    lines += [
        "",
        f"aimed at: {report['targets']['to_engine']} of the engine at 8 streams in scaled mode, the first token at most"
        f" {report['targets']['first_token_ms']:.0f} ms after the engine's",
    ]
    return "\n".join(lines)
