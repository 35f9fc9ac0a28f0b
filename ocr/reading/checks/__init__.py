"""The checks of a reading. They flag values; they never change or reject one.

A genuine card can break most rules: a NIK never changes, even if its holder moves or its encoded birth date is wrong,
and old cards print old words. Repairing one field from another would make the fields agree and so defeat the check.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping

from ocr.reading.checks import address, dates, listed, names, nik, presence
from ocr.reading.problems import Problem


def run_checks(values: Mapping[str, str], *, today: datetime.date | None = None) -> list[Problem]:
    """All problems of the flat reading ``values``, in the order of the modules. ``today`` is for tests."""
    today = today or datetime.date.today()
    return [
        *presence.check(values),
        *nik.check(values),
        *names.check(values),
        *dates.check(values, today=today),
        *address.check(values),
        *listed.check(values),
    ]
