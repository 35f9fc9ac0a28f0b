"""Printed values in a form that can be compared. The values themselves stay as they were read."""

from __future__ import annotations

import datetime
import re
import unicodedata
from collections.abc import Mapping

from ocr.reading.vocabularies import CITIZEN

_DATE = re.compile(r"(\d{2})[-/. ](\d{2})[-/. ](\d{4})")


def words(value: str) -> str:
    """Upper case, single blanks, no blanks around slashes and hyphens."""
    plain = " ".join(unicodedata.normalize("NFKC", value).upper().split())
    return re.sub(r" ?([/-]) ?", r"\1", plain)


def date_parts(value: str) -> tuple[int, int, int] | None:
    """Day, month, year of ``DD-MM-YYYY``, whether or not such a day exists; None for anything else."""
    match = _DATE.fullmatch(value.strip())
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def real_date(day: int, month: int, year: int) -> datetime.date | None:
    """The date, or None where the calendar has no such day."""
    try:
        return datetime.date(year, month, day)
    except ValueError:
        return None


def is_foreigners(values: Mapping[str, str]) -> bool:
    """Whether the card names another country: then its words are English and its expiry counts.

    A misread WNI (WN1, WNL) must not soften the checks, so what is that short or begins like it does not count.
    """
    nationality = words(values.get("kewarganegaraan", ""))
    if nationality == "WNA":
        return True
    return len(nationality) > len(CITIZEN) and not nationality.startswith("WN") and nationality != "INDONESIA"
