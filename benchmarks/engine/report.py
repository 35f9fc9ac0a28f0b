"""What a run found: as values for JSON, and as a table of them."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from benchmarks.engine.measure import AT_ONCE, STAGGERED, Measurements, Plan
from benchmarks.engine.runs import Run

ENGINE, STATIC = "engine", "static batch"
WITH_SCHEMA = "engine, a schema a row"
Report = dict[str, Any]


def figures(found: Measurements, plan: Plan, about: Report, bound: Report | None) -> Report:
    """Medians over the rounds, and their spread. Ratios are taken within a round and then their median."""
    cells = [
        {**dataclasses.asdict(cell), **_figures_of([run for run in runs if run is not None])}
        for cell, runs in found.runs.items()
        if any(run is not None for run in runs)
    ]
    if bound is not None:
        for name, limit, rows in (
            ("share_of_bound_alone", "bound_tokens_per_second", 1),
            ("share_of_peak_in_a_batch", "peak_tokens_per_second", max(plan.rows)),
        ):
            rates = _values(found.of(ENGINE, AT_ONCE, plan.media[0], rows), lambda run: run.prefilled_rate)
            if rates:
                bound = {**bound, name: statistics.median(rates) / bound[limit]}
    return {
        "about": about,
        "cells": cells,
        "ratios": list(_ratios(found, plan)),
        "bound": bound,
        "left_out": found.left_out,
        "failed": [{"contestant": name, "media": media, "error": why} for (name, media), why in found.failed.items()],
    }


def _figures_of(runs: Sequence[Run]) -> Report:
    firsts = sorted(1000 * seconds for run in runs for seconds in run.first_token_seconds)
    return {
        "rounds": len(runs),
        "tokens_per_second": spread([run.rate for run in runs]),
        "prefilled_tokens_per_second": spread(_values(runs, lambda run: run.prefilled_rate)),
        "first_token_ms": {"p50": statistics.median(firsts), "p95": firsts[round(0.95 * (len(firsts) - 1))]},
    }


def _ratios(found: Measurements, plan: Plan) -> Iterator[Report]:
    for media in plan.media:
        for rows in plan.rows:
            ours = found.of(ENGINE, AT_ONCE, media, rows)
            for what, of in _RATES.items():
                against = "generate" if rows == 1 else f"a static batch of {rows}"
                yield from _ratio(
                    f"{rows} {media}, {what}, to {against}", ours, found.of(STATIC, AT_ONCE, media, rows), of
                )
            for what, of in _RATES.items():
                yield from _ratio(
                    f"{rows} {media}, {what}, with a schema to without",
                    found.of(WITH_SCHEMA, AT_ONCE, media, rows),
                    ours,
                    of,
                )
    if set(plan.media) == {"text", "image"}:
        for rows in plan.rows:
            yield from _ratio(
                f"{rows} image, once prefilled, to {rows} text",
                found.of(ENGINE, AT_ONCE, "image", rows),
                found.of(ENGINE, AT_ONCE, "text", rows),
                _RATES["once prefilled"],
            )


_RATES: dict[str, Callable[[Run], float | None]] = {
    "in all": lambda run: run.rate,
    "once prefilled": lambda run: run.prefilled_rate,
}


def _ratio(
    name: str, ours: Sequence[Run | None], theirs: Sequence[Run | None], of: Callable[[Run], float | None]
) -> Iterator[Report]:
    pairs = [
        (mine, other)
        for a, b in zip(ours, theirs, strict=False)
        if a is not None and b is not None and (mine := of(a)) is not None and (other := of(b)) is not None
    ]
    if pairs:
        yield {"engine": name, **(spread([mine / other for mine, other in pairs]) or {})}


def _values(runs: Iterable[Run | None], of: Callable[[Run], float | None]) -> list[float]:
    return [value for run in runs if run is not None and (value := of(run)) is not None]


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """None if there are no values."""
    if not values:
        return None
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def table(report: Report) -> str:
    """The figures for people; ± is half of what lies between the least and the most, as a share of the median."""
    lines = ["  ".join(f"{name}: {value}" for name, value in report["about"].items()), ""]
    for media in dict.fromkeys(cell["media"] for cell in report["cells"]):
        for arrivals in (AT_ONCE, STAGGERED):
            cells = [cell for cell in report["cells"] if cell["media"] == media and cell["arrivals"] == arrivals]
            if cells:
                lines += _block(f"{media}, {arrivals}", cells)
    lines += [f"{'the engine, against others in the same round':56}{'median':>8}{'least':>8}{'most':>8}"]
    for ratio in report["ratios"]:
        lines.append(f"  {ratio['engine']:54}{ratio['median']:8.2f}{ratio['least']:8.2f}{ratio['most']:8.2f}")
    if report["bound"]:
        lines += ["", "what the machine allows, and the share of it that is used"]
        lines += [f"  {name:40}{value:12,.2f}" for name, value in report["bound"].items()]
    if report["failed"]:
        lines += ["", "failed"]
    lines += [f"  {failure['contestant']}, {failure['media']}: {failure['error']}" for failure in report["failed"]]
    if report["left_out"]:
        lines += ["", "not measured"]
        lines += [f"  {what}: {why}" for what, why in report["left_out"].items()]
    return "\n".join(lines)


_SECTIONS: dict[str, Callable[[Report], str]] = {
    "tokens a second": lambda cell: _plus_minus(cell["tokens_per_second"]),
    "the same, once prefilled": lambda cell: _plus_minus(cell["prefilled_tokens_per_second"]),
    "first token, ms, p50 and p95": lambda cell: (
        f"{cell['first_token_ms']['p50']:.0f} {cell['first_token_ms']['p95']:6.0f}"
    ),
}


def _block(title: str, cells: Sequence[Report]) -> Iterator[str]:
    rows = sorted({cell["rows"] for cell in cells})
    contestants = list(dict.fromkeys(cell["contestant"] for cell in cells))
    yield f"{title:32}" + "".join(f"{number:>13}" for number in rows)
    for section, shown in _SECTIONS.items():
        by_place = {(cell["contestant"], cell["rows"]): shown(cell) for cell in cells}
        with_any = [name for name in contestants if any(by_place.get((name, number)) for number in rows)]
        if with_any:
            yield f"  {section}"
        for name in with_any:
            yield f"    {name:28}" + "".join(f"{by_place.get((name, number)) or '–':>13}" for number in rows)
    yield ""


def _plus_minus(values: dict[str, float] | None) -> str:
    if values is None:
        return ""
    return f"{values['median']:,.0f} ±{50 * (values['most'] - values['least']) / values['median']:2.0f}%"
