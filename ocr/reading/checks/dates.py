"""Birth date and expiry.

A citizen's card is valid for life, whatever date is printed (Law 24/2013, art. 64 and 101), so only a foreigner's card
can be expired.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping

from ocr.reading.checks import printed
from ocr.reading.problems import Problem
from ocr.reading.vocabularies import LIFETIME

#: a card is issued at 17, or earlier to a married person
YOUNGEST_YEARS = 16
OLDEST_YEARS = 120


def check(values: Mapping[str, str], *, today: datetime.date) -> Iterator[Problem]:
    yield from _check_birth(values.get("tgl_lahir", ""), today)
    yield from _check_expiry(values.get("berlaku_hingga", ""), printed.is_foreigners(values), today)


def _check_birth(value: str, today: datetime.date) -> Iterator[Problem]:
    if not value:
        return
    parts = printed.date_parts(value)
    if parts is None:
        yield Problem("tgl_lahir", "date_format")
        return
    birth = printed.real_date(*parts)
    if birth is None:
        yield Problem("tgl_lahir", "date_unreal", "error")
        return
    age = today.year - birth.year - ((today.month, today.day) < (birth.month, birth.day))
    if birth > today:
        yield Problem("tgl_lahir", "birth_date_future", "error")
    elif age < YOUNGEST_YEARS:
        yield Problem("tgl_lahir", "birth_date_too_young")
    elif age > OLDEST_YEARS:
        yield Problem("tgl_lahir", "birth_date_too_old")


def _check_expiry(value: str, foreigners: bool, today: datetime.date) -> Iterator[Problem]:
    if not value or printed.words(value) == LIFETIME:
        return
    parts = printed.date_parts(value)
    if parts is None:
        yield Problem("berlaku_hingga", "expiry_format", "info" if foreigners else "warning")
        return
    expiry = printed.real_date(*parts)
    if expiry is None:
        yield Problem("berlaku_hingga", "date_unreal", "error")
    elif foreigners and expiry < today:
        yield Problem("berlaku_hingga", "expired_foreigner")
