"""Mask personal data: enough stays to recognise a row, but not enough to copy the value."""

from __future__ import annotations

import re

DOT = "•"


def mask_nik(nik: str) -> str:
    """Region and serial number stay: 317101••••••0001. Of another length only two digits stay."""
    if len(nik) == 16:
        return nik[:6] + DOT * 6 + nik[-4:]
    return nik[:2] + DOT * (len(nik) - 2)


def mask_name(name: str) -> str:
    """The first letter of each word stays: "BUDI S" is "B••• S"."""
    return " ".join(word[0] + DOT * (len(word) - 1) for word in name.split())


def mask_date(date: str) -> str:
    """Only the form stays: ••-••-••••."""
    return re.sub(r"\w", DOT, date)


def mask_digits(text: str) -> str:
    """Mask every digit of a text that the model is still writing; they belong to the NIK and the dates."""
    return re.sub(r"\d", DOT, text)


def mask(path: str, value: str) -> str:
    """The masked value of the field ``path``."""
    masks = {"nik": mask_nik, "tgl_lahir": mask_date}
    return masks.get(path, mask_name)(value)
