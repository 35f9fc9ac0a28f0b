"""The identity number: PP RR SS DDMMYY NNNN, with 40 added to a woman's day."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ocr.reading.checks import printed
from ocr.reading.problems import Problem
from ocr.reading.vocabularies import FEMALE, HIGHEST_DISTRICT_CODE, MALE, PROVINCE_CODES

# The digits 0-9 only: \d would match those of every script.
_NIK = re.compile(r"[0-9]{16}")
_FEMALE_OFFSET = 40


def check(values: Mapping[str, str]) -> Iterator[Problem]:
    nik = values.get("nik", "")
    if not nik:
        return
    if not _NIK.fullmatch(nik):
        # The other rules depend on digit positions, so they would give false flags for another length.
        yield Problem("nik", "nik_not_16_digits", "error")
        return
    yield from _check_region(nik)
    yield from _check_date_and_gender(nik, values)
    if nik[12:] == "0000":
        yield Problem("nik", "nik_serial_zero", "error")


def _check_region(nik: str) -> Iterator[Problem]:
    regency, district = int(nik[2:4]), int(nik[4:6])
    if nik[:2] not in PROVINCE_CODES:
        yield Problem("nik", "nik_unknown_province")
    if not (1 <= regency <= 69 or 71 <= regency <= 99):
        yield Problem("nik", "nik_bad_regency")
    if not 1 <= district <= HIGHEST_DISTRICT_CODE:
        # Districts change, but numbers are kept for life, so an unknown district is only information.
        yield Problem("nik", "nik_unused_district", "info")


def _check_date_and_gender(nik: str, values: Mapping[str, str]) -> Iterator[Problem]:
    day, month, year = int(nik[6:8]), int(nik[8:10]), int(nik[10:12])
    is_woman = day > _FEMALE_OFFSET
    day -= _FEMALE_OFFSET * is_woman
    if not (printed.real_date(day, month, 1900 + year) or printed.real_date(day, month, 2000 + year)):
        yield Problem("nik", "nik_bad_date", "error")
        return
    birth = printed.date_parts(values.get("tgl_lahir", ""))
    if birth is not None and printed.real_date(*birth) and (day, month, year) != (birth[0], birth[1], birth[2] % 100):
        # Either of the two values may be misread.
        yield Problem("nik", "nik_birth_date_differs")
        yield Problem("tgl_lahir", "nik_birth_date_differs")
    gender = printed.words(values.get("jenis_kelamin", ""))
    if gender in (MALE if is_woman else FEMALE):
        yield Problem("nik", "nik_gender_differs")
        yield Problem("jenis_kelamin", "nik_gender_differs")
