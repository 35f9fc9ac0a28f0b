"""Where a NIK was first given out, by its first digits. A holder who moved keeps the number, so it need not be where
they live."""

from __future__ import annotations

import re
from typing import NamedTuple

from ocr.reading.vocabularies import PROVINCES

_NIK = re.compile(r"[0-9]{16}")


class Region(NamedTuple):
    """Codes of the Ministry of Home Affairs; "" for a number that has none."""

    province_code: str = ""
    province: str = ""
    #: of the regency or city: the first four digits
    city_code: str = ""


def region_of(nik: str) -> Region:
    """Nothing for what is no NIK, or of no province."""
    if not _NIK.fullmatch(nik) or nik[:2] not in PROVINCES:
        return Region()
    return Region(nik[:2], PROVINCES[nik[:2]], nik[:4])
