"""Fields whose values usually come from a list. Foreigners' cards use English words and are not checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ocr.reading.checks import printed
from ocr.reading.problems import Problem, Severity
from ocr.reading.vocabularies import CITIZEN, GENDERS, MARITAL_STATUSES, OCCUPATIONS, RELIGIONS

_LISTS: tuple[tuple[str, frozenset[str], str, Severity], ...] = (
    ("jenis_kelamin", GENDERS, "unknown_gender", "warning"),
    ("agama", RELIGIONS, "unknown_religion", "warning"),
    ("status_perkawinan", MARITAL_STATUSES, "unknown_marital_status", "warning"),
    # Older cards print older words, so a genuine occupation is often not in the list.
    ("pekerjaan", OCCUPATIONS, "unknown_occupation", "info"),
)


def check(values: Mapping[str, str]) -> Iterator[Problem]:
    if printed.is_foreigners(values):
        yield Problem("kewarganegaraan", "foreign_national", "info")
        return
    nationality = printed.words(values.get("kewarganegaraan", ""))
    if nationality and nationality != CITIZEN:
        yield Problem("kewarganegaraan", "unknown_nationality")
    for path, known, code, severity in _LISTS:
        value = printed.words(values.get(path, ""))
        if value and value not in known:
            yield Problem(path, code, severity)
