"""Personal data in lists: enough to recognise a row, not enough to copy."""

from __future__ import annotations

DOT = "•"


def mask_nik(nik: str) -> str:
    """The region and the serial number stay: 317101••••••0001. A number of another length loses all but two."""
    if len(nik) == 16:
        return nik[:6] + DOT * 6 + nik[-4:]
    return nik[:2] + DOT * (len(nik) - 2)


def mask_name(name: str) -> str:
    """The first letter of each word stays: "BUDI S" is "B••• S"."""
    return " ".join(word[0] + DOT * (len(word) - 1) for word in name.split())


def mask(path: str, value: str) -> str:
    """The masked value of the identifying field ``path``."""
    return mask_nik(value) if path == "nik" else mask_name(value)
