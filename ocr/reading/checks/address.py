"""The address. Only the format of RT/RW is checked. The NIK does not help: people move, and regions are split."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ocr.reading.checks import printed
from ocr.reading.problems import Problem

# Either part may be a hyphen; villages use two digits or three.
_RT_RW = re.compile(r"(?:[0-9]{1,3}|-)/(?:[0-9]{1,3}|-)|-")


def check(values: Mapping[str, str]) -> Iterator[Problem]:
    rt_rw = printed.words(values.get("alamat.rt_rw", ""))
    if rt_rw and not _RT_RW.fullmatch(rt_rw):
        yield Problem("alamat.rt_rw", "rt_rw_format", "info" if printed.is_foreigners(values) else "warning")
