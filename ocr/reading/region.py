"""The region that first issued a NIK, from its first digits. Holders keep the number when they move elsewhere."""

from __future__ import annotations

import re
from typing import NamedTuple

from ocr.reading.vocabularies import PROVINCES

_NIK = re.compile(r"[0-9]{16}")


class Region(NamedTuple):
    """Codes of the Ministry of Home Affairs; "" if the number has none."""

    province_code: str = ""
    province: str = ""
    #: code of the regency or city: the first four digits
    city_code: str = ""


def region_of(nik: str) -> Region:
    """The region of a NIK; empty for an invalid number or an unknown province."""
    if not _NIK.fullmatch(nik) or nik[:2] not in PROVINCES:
        return Region()
    return Region(nik[:2], PROVINCES[nik[:2]], nik[:4])
