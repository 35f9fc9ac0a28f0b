"""Missing values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ocr.reading.problems import Problem
from ocr.reading.schema import FIELDS

#: without these values the reading does not identify a person
ESSENTIAL = frozenset({"nik", "nama"})

#: values that are blank on some older cards
OFTEN_BLANK = frozenset({"agama"})


def check(values: Mapping[str, str]) -> Iterator[Problem]:
    empty = [field.path for field in FIELDS if not values.get(field.path)]
    if len(empty) == len(FIELDS):
        # One problem instead of fourteen. A picture of something else has no values at all.
        yield Problem(None, "nothing_read")
        return
    for path in empty:
        if path in ESSENTIAL:
            yield Problem(path, "empty", "error")
        else:
            yield Problem(path, "empty", "info" if path in OFTEN_BLANK else "warning")
