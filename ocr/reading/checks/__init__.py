"""The checks of a reading. They flag values; they never change or reject one.

A genuine card can break most of them: a NIK never changes, not when its holder moves and not when a wrongly encoded
birth date is found, and old cards carry old words. Repairing one field from another would make the fields agree
and so defeat the check.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping

from ocr.reading.checks import address, dates, listed, names, nik, presence
from ocr.reading.problems import Problem


def run_checks(values: Mapping[str, str], *, today: datetime.date | None = None) -> list[Problem]:
    """Every problem of the flat reading ``values``, in the order of the families. ``today`` is for tests."""
    today = today or datetime.date.today()
    return [
        *presence.check(values),
        *nik.check(values),
        *names.check(values),
        *dates.check(values, today=today),
        *address.check(values),
        *listed.check(values),
    ]
