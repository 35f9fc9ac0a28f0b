"""The holder's name. One-word names and abbreviated titles are fine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ocr.reading.problems import Problem

#: Regulation 73/2022 of the Minister of Home Affairs, blanks included
MAX_NAME_CHARS = 60


def check(values: Mapping[str, str]) -> Iterator[Problem]:
    name = values.get("nama", "")
    if any(char.isdigit() for char in name):
        yield Problem("nama", "name_has_digits")
    if len(name) > MAX_NAME_CHARS:
        yield Problem("nama", "name_too_long")
