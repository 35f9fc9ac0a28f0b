"""Parse the model's answer into a reading: the fields, and the problems of the answer. Never raises.

Values are neither guessed nor corrected. A value that cannot be used is left empty, and a problem says why. Only blanks
at the ends, repeated blanks and control characters are removed.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ocr.reading import keys, leaks, lenient_json
from ocr.reading.problems import Problem
from ocr.reading.schema import FIELDS, MAX_VALUE_CHARS, empty_values

#: answers have some hundred characters; of a much longer one only the beginning is parsed
MAX_ANSWER_CHARS = 20_000
#: maximum objects parsed in one answer
MAX_CANDIDATES = 50

_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_LINE_BREAKS = re.compile(r"\s+")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffe\uffff\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


#: codes of answers without a reading
UNREADABLE_CODES = frozenset({"no_answer", "not_json", "wrong_shape"})

#: problems that are visible only in the answer; the checks cannot find them again in the values
ANSWER_CODES = UNREADABLE_CODES | {
    "repaired",
    "truncated",
    "several_answers",
    "wrong_type",
    "too_long",
    "cut_value",
    "placeholder",
    "example_leak",
    "conflicting_values",
    "other_key",
    "uncertain",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """The values of one answer, and its problems."""

    #: all paths of ``FIELDS``; "" for values that were not read
    values: dict[str, str] = dataclasses.field(repr=False)
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One object found in the answer."""

    found: keys.Found
    #: whether it was valid JSON, without repairs
    strict: bool
    #: whether the answer ended before the object
    cut: bool


def parse_answer(text: str, *, finish_reason: str = "stop") -> Reading:
    """The reading in the answer ``text``. The ``finish_reason`` "length" means that the answer was cut off."""
    answer = without_thoughts(text)[:MAX_ANSWER_CHARS].strip()
    whole: list[Problem] = []
    if finish_reason == "length":
        whole.append(Problem(None, "truncated"))
    if not answer:
        return Reading(empty_values(), (*whole, Problem(None, "no_answer", "error")))

    candidates = list(_candidates(answer))
    useful = [candidate for candidate in candidates if candidate.found.values]
    if not useful:
        code = "wrong_shape" if candidates else "not_json"
        return Reading(empty_values(), (*whole, Problem(None, code, "error")))

    # The object with the most fields; among equals the last, because models reason first and answer last.
    chosen = max(enumerate(useful), key=lambda pair: (len(pair[1].found.values), pair[0]))[1]
    if any(_disagree(chosen, other) for other in useful):
        whole.append(Problem(None, "several_answers"))
    if not chosen.strict:
        whole.append(Problem(None, "repaired"))
    if chosen.cut and finish_reason != "length":
        whole.append(Problem(None, "truncated"))

    values, problems = empty_values(), list(chosen.found.problems)
    for field in FIELDS:
        if field.path in chosen.found.values:
            values[field.path], problem = _as_text(field.path, chosen.found.values[field.path])
            if problem is not None:
                problems.append(problem)
    values, leaked = leaks.without_leaks(values)
    return Reading(values, (*whole, *problems, *leaked))


def without_thoughts(text: str) -> str:
    """``text`` without <think>…</think>, even if one of the tags is missing."""
    answer = _THOUGHT.sub("", text)
    # The template may have opened the reasoning, so the text may contain only the closing tag.
    return answer.rpartition("</think>")[2]


def _candidates(answer: str) -> Iterator[_Candidate]:
    """The outermost objects in the answer, in order, with or without prose and fences around them."""
    at, tried = answer.find("{"), 0
    while at != -1 and tried < MAX_CANDIDATES:
        tried += 1
        strict = lenient_json.read_strict(answer, at)
        if strict is not None:
            value, end = strict
            yield _Candidate(keys.find_fields(value), strict=True, cut=False)
        else:
            value, end, closed = lenient_json.read_object(answer, at)
            found = keys.find_fields(value)
            if not found.values:
                # A stray brace in prose must not hide an object that follows.
                end = at + 1
            if value:
                yield _Candidate(found, strict=False, cut=not closed)
        at = answer.find("{", end)


def _disagree(chosen: _Candidate, other: _Candidate) -> bool:
    """Whether the two objects have different values for the same field."""
    mine, theirs = chosen.found.values, other.found.values
    return any(theirs[path] and mine.get(path) and theirs[path] != mine[path] for path in theirs)


def _as_text(path: str, value: Any) -> tuple[str, Problem | None]:
    """The value as one clean line, or "" and the code of the problem."""
    if value is lenient_json.CUT:
        return "", Problem(path, "cut_value")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, Mapping) and isinstance(value.get("value"), str):
        value = value["value"]
    if value is None:
        return "", None
    if not isinstance(value, str):
        return "", Problem(path, "wrong_type", "error")
    line = clean(value)
    if len(line) > MAX_VALUE_CHARS:
        return "", Problem(path, "too_long", "error")
    return line, None


def storable(text: str) -> str:
    """``text`` without NUL and lone surrogates, which PostgreSQL refuses."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "")


def clean(text: str) -> str:
    """One line without characters that do not print."""
    text = storable(text)
    return _LINE_BREAKS.sub(" ", _CONTROL.sub("", text)).strip()
