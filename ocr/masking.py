"""Personal data in lists: enough to recognise a row, not enough to copy."""

from __future__ import annotations

import re

DOT = "•"


def mask_nik(nik: str) -> str:
    """The region and the serial number stay: 317101••••••0001. A number of another length loses all but two."""
    if len(nik) == 16:
        return nik[:6] + DOT * 6 + nik[-4:]
    return nik[:2] + DOT * (len(nik) - 2)


def mask_name(name: str) -> str:
    """The first letter of each word stays: "BUDI S" is "B••• S"."""
    return " ".join(word[0] + DOT * (len(word) - 1) for word in name.split())


def mask_date(date: str) -> str:
    """Nothing stays but its form: ••-••-••••."""
    return re.sub(r"\w", DOT, date)


def mask_digits(text: str) -> str:
    """Of a text that is still being read, everything but its digits: those of the NIK and of the dates."""
    return re.sub(r"\d", DOT, text)


def mask(path: str, value: str) -> str:
    """The masked value of the field ``path``."""
    masks = {"nik": mask_nik, "tgl_lahir": mask_date}
    return masks.get(path, mask_name)(value)
