"""The figures as a table for a terminal and as JSON for a program."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ocr.evaluation.metrics import Figures, Rate, figures
from ocr.evaluation.results import Result
from ocr.reading.schema import FIELD_BY_PATH

#: attribute of ``Figures`` → what it is called in the tables
RATES: dict[str, str] = {
    "card_exact": "Card exact",
    "field_exact": "Field exact",
    "nik_exact": "NIK exact",
    "nik_digits": "NIK digits right",
    "wrong_unflagged": "Wrong and unflagged",
    "right_flagged": "Right and flagged",
    "invented": "Invented where hidden",
    "rejected": "Other pictures rejected",
}

#: the members of ``RATES`` in the table by condition → short names
RATES_BY_CONDITION: dict[str, str] = {
    "card_exact": "card exact",
    "field_exact": "field exact",
    "nik_exact": "NIK exact",
    "wrong_unflagged": "wrong, unfl.",
    "invented": "invented",
    "rejected": "rejected",
}

NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All results of one run of the command."""

    #: the folder, as given on the command line
    folder: str
    #: the reader's description
    reader: str
    #: pictures read at a time
    concurrency: int
    #: seconds from the first picture to the last
    seconds: float
    #: number of planned pictures; fewer were read if the run was stopped
    planned: int
    #: never empty
    results: Sequence[Result]

    @property
    def is_complete(self) -> bool:
        return len(self.results) == self.planned

    @property
    def kind(self) -> str:
        """The kind of pictures. Every report names it, because figures of drawings say little about photographs."""
        is_synthetic = all(result.specimen.is_synthetic for result in self.results)
        return "synthetic specimens" if is_synthetic else "labelled pictures"

    def by_condition(self) -> dict[str, list[Result]]:
        """The results of each condition; conditions in alphabetical order."""
        groups: dict[str, list[Result]] = {}
        for result in sorted(self.results, key=lambda result: (result.specimen.condition, result.specimen.file)):
            groups.setdefault(result.specimen.condition, []).append(result)
        return groups


def as_text(evaluation: Evaluation) -> str:
    """Three tables: all pictures, by condition, by field."""
    tables = [_head(evaluation), _overall(evaluation), _by_condition(evaluation), _by_field(evaluation)]
    return "".join(f"{line}\n" for table in tables for line in table)


def as_json(evaluation: Evaluation, *, with_values: bool = False) -> dict[str, Any]:
    """All figures of the tables, and one entry per picture; no values of cards unless ``with_values``."""
    return {
        "folder": evaluation.folder,
        "kind": evaluation.kind,
        "reader": evaluation.reader,
        "concurrency": evaluation.concurrency,
        "seconds": round(evaluation.seconds, 3),
        "planned": evaluation.planned,
        "complete": evaluation.is_complete,
        "all": _figures_as_json(figures(evaluation.results)),
        "by_condition": {
            condition: _figures_as_json(figures(results)) for condition, results in evaluation.by_condition().items()
        },
        "pictures": [
            _result_as_json(result, with_values=with_values)
            for result in sorted(evaluation.results, key=lambda result: result.specimen.file)
        ],
    }


def _head(evaluation: Evaluation) -> Iterator[str]:
    count = len(evaluation.results)
    read = f"{count}" if evaluation.is_complete else f"{count} of {evaluation.planned}"
    yield f"{read} {evaluation.kind} of {evaluation.folder}"
    yield f"read by {evaluation.reader}, {evaluation.concurrency} at a time, in {evaluation.seconds:.0f} s"
    yield "Percentages with 95% Wilson intervals (too narrow over fields and digits, which depend on each other)."


def _overall(evaluation: Evaluation) -> Iterator[str]:
    found = figures(evaluation.results)
    yield ""
    for name, label in RATES.items():
        rate: Rate = getattr(found, name)
        counted = f"{rate.hits} of {rate.of}" if rate.of else ""
        yield f"  {label:<24}{_percent(rate.share):>7}  {_interval(rate):<14}{counted}".rstrip()
    yield f"  {'Character error rate':<24}{_percent(found.cer):>7}"
    yield f"  {'ANLS*':<24}{_number(found.anls_star, 3):>7}"
    yield f"  {'Seconds a picture':<24}{_number(found.p50, 2):>7}  p50, {_number(found.p95, 2)} p95"
    yield f"  {'Answers not readable':<24}{found.unreadable:>7}"
    yield f"  {'Not answered':<24}{found.failed:>7}"
    for error, times in _errors(evaluation.results):
        yield f"    {times} × {error}"


def _by_condition(evaluation: Evaluation) -> Iterator[str]:
    yield ""
    head = "".join(f"{label:>17}" for label in RATES_BY_CONDITION.values())
    yield f"{'By condition':<15}{'n':>5}{head}"
    groups = {condition: figures(results) for condition, results in evaluation.by_condition().items()}
    for condition, found in groups.items():
        cells = "".join(f"{_with_interval(getattr(found, name)):>17}" for name in RATES_BY_CONDITION)
        yield f"  {condition:<13}{found.cards + found.others:>5}{cells}"
    yield ""
    yield f"{'':20}{'NIK digits':>17}{'CER':>17}{'ANLS*':>17}{'p50 s':>17}{'p95 s':>17}"
    for condition, found in groups.items():
        yield (
            f"  {condition:<13}{found.cards + found.others:>5}{_percent(found.nik_digits.share):>17}"
            f"{_percent(found.cer):>17}{_number(found.anls_star, 3):>17}"
            f"{_number(found.p50, 2):>17}{_number(found.p95, 2):>17}"
        )


def _by_field(evaluation: Evaluation) -> Iterator[str]:
    found = figures(evaluation.results)
    if not found.cards:
        return
    yield ""
    yield f"{'By field':<26}{'exact':>7}"
    for path, rate in found.exact_by_field.items():
        yield f"  {FIELD_BY_PATH[path].label:<24}{_percent(rate.share):>7}  {_interval(rate)}"


def _errors(results: Sequence[Result]) -> list[tuple[str, int]]:
    """The reasons of pictures without an answer, most frequent first."""
    counts: dict[str, int] = {}
    for result in results:
        if result.answer.error:
            counts[result.answer.error] = counts.get(result.answer.error, 0) + 1
    return sorted(counts.items(), key=lambda item: -item[1])


def _percent(share: float | None) -> str:
    return NOTHING if share is None else f"{100 * share:.1f}%"


def _number(value: float | None, digits: int) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"


def _interval(rate: Rate) -> str:
    return f"{100 * rate.interval[0]:.1f}–{100 * rate.interval[1]:.1f}" if rate.interval else ""


def _with_interval(rate: Rate) -> str:
    """Interval in whole percents, rounded outwards: with few pictures per condition, 0–0 would be too precise."""
    if rate.interval is None:
        return NOTHING
    low, high = rate.interval
    return f"{_percent(rate.share)} {f'({math.floor(100 * low)}–{math.ceil(100 * high)})':>8}"


def _figures_as_json(found: Figures) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for field in dataclasses.fields(found):
        value = getattr(found, field.name)
        if isinstance(value, Rate):
            shown[field.name] = _rate_as_json(value)
        elif isinstance(value, dict):
            shown[field.name] = {path: _rate_as_json(rate) for path, rate in value.items()}
        else:
            shown[field.name] = value
    return shown


def _rate_as_json(rate: Rate) -> dict[str, Any]:
    low, high = rate.interval or (None, None)
    return {"share": rate.share, "low": low, "high": high, "hits": rate.hits, "of": rate.of}


def _result_as_json(result: Result, *, with_values: bool) -> dict[str, Any]:
    specimen, answer = result.specimen, result.answer
    shown: dict[str, Any] = {
        "file": specimen.file,
        "condition": specimen.condition,
        "kind": "ktp" if specimen.is_card else "other",
        "seconds": round(answer.seconds, 4),
        "error": answer.error,
        "readable": answer.has_reading,
        "wrong": result.wrong,
        "wrong_unflagged": result.wrong_and_unflagged,
        "invented": result.invented,
        "problems": [{"field": problem.field, "code": problem.code} for problem in answer.problems],
    }
    if with_values:
        shown["values"] = {
            path: {"printed": specimen.values[path], "read": answer.values[path]} for path in result.wrong
        }
    return shown
