"""Normalise printed values for comparison. The stored values are not changed."""

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
    """Whether the card names another country. Such a card has English words, and its expiry counts.

    A misread WNI (WN1, WNL) must not weaken the checks, so values that are so short or begin like it do not count.
    """
    nationality = words(values.get("kewarganegaraan", ""))
    if nationality == "WNA":
        return True
    return len(nationality) > len(CITIZEN) and not nationality.startswith("WN") and nationality != "INDONESIA"
