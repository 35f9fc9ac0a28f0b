"""How a session's figures are written for people: one place, so that the list and the detail page agree."""

from __future__ import annotations

import datetime

from django.utils import timezone
from django.utils.formats import date_format

#: shown where there is no value yet
NONE = "–"


def duration(value: datetime.timedelta | None) -> str:
    """Two figures at most: ``85 ms``, ``4.21 s``, ``3 min 7 s``, ``2 h 5 min``, ``4 d 3 h``."""
    if value is None:
        return NONE
    seconds = max(value.total_seconds(), 0.0)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    for name, unit, smaller_name, smaller in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // smaller} {smaller_name}"
    return f"{whole} s"


def rough(value: datetime.timedelta) -> str:
    """One figure: ``12 s``, ``7 min``, ``3 h``, ``4 d``."""
    seconds = max(int(value.total_seconds()), 0)
    for name, unit in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"


def moment(value: datetime.datetime | None) -> str:
    """A time in the zone ``TIME_ZONE``, to the second: the format of all pages, see ``config/formats``."""
    return NONE if value is None else date_format(timezone.localtime(value), "DATETIME_FORMAT")


def precise_moment(value: datetime.datetime) -> str:
    """A time as in ``moment``, to the millisecond, for events that happen many times a second."""
    return f"{moment(value)}.{value.microsecond // 1000:03d}"


def count(value: int | None) -> str:
    return NONE if value is None else f"{value:,}"


def rate(value: float | None) -> str:
    """Tokens per second."""
    return NONE if value is None else f"{value:,.1f}"


def share(part: int, whole: int | None) -> str:
    """A share in whole per cent; unknown if ``whole`` is 0."""
    return f"{part / whole:.0%}" if whole else NONE


def size(value: int) -> str:
    """Bytes, in kB, MB or GB."""
    if value < 1_000_000:
        return f"{max(value / 1000, 0.1):,.1f} kB"
    if value < 1_000_000_000:
        return f"{value / 1_000_000:,.1f} MB"
    return f"{value / 1_000_000_000:,.1f} GB"
