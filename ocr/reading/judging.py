"""Find the problems of a reading: of the model's answer, and again after people's corrections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from django.conf import settings

from ocr.reading import confidence
from ocr.reading.checks import run_checks
from ocr.reading.parsing import ANSWER_CODES, UNREADABLE_CODES, Reading, parse_answer
from ocr.reading.problems import Problem
from ocr.reading.schema import FIELDS


def judge_answer(text: str, *, finish_reason: str, tokens: Sequence[confidence.Token] = ()) -> Reading:
    """The reading in the model's answer, with the problems that the parser and the checks have found.

    ``tokens`` are the answer's tokens; without them no value is flagged as uncertain.
    """
    reading = parse_answer(text, finish_reason=finish_reason)
    uncertain = confidence.check(reading.values, tokens, below=settings.OCR_DOUBT_BELOW)
    checked = _without_repeats(run_checks(reading.values), reading.problems)
    return Reading(reading.values, (*reading.problems, *uncertain, *checked))


def judge_again(
    values: Mapping[str, str], *, values_read: Mapping[str, str], problems_read: Iterable[Problem]
) -> list[Problem]:
    """All problems of ``values``, which are corrections of ``values_read`` with ``problems_read``.

    Problems of the answer stay for fields that still have the model's value. Corrected fields only have problems that
    the checks find.
    """
    corrected = {field.path for field in FIELDS if values[field.path] != values_read.get(field.path, "")}
    noted = [problem for problem in problems_read if problem.code in ANSWER_CODES and problem.field not in corrected]
    return [*noted, *_without_repeats(run_checks(values), noted)]


def _without_repeats(checked: Iterable[Problem], noted: Iterable[Problem]) -> list[Problem]:
    """The checks' problems, without "empty" for fields whose emptiness the parser has explained."""
    noted = list(noted)
    explained = {problem.field for problem in noted if problem.field and problem.severity != "info"}
    unreadable = any(problem.code in UNREADABLE_CODES for problem in noted)
    return [
        problem
        for problem in checked
        if not (problem.code == "empty" and problem.field in explained)
        and not (problem.code == "nothing_read" and unreadable)
    ]
