"""Keyed digests of encrypted values (NIK, name, picture), so that they can be searched.

Each digest is an HMAC with a key derived from a data key. A row stores the digest of the first key. While
``manage.py rotate_keys`` runs, rows have digests of several keys, so a search must accept all of them: use the methods
of ``Searchable``, or ``__in`` with the plural functions.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from ocr.reading.parsing import clean
from sessions_app.encryption import keyring

NIK, NAME, PICTURE = "ktp nik", "ktp name", "ktp picture"

NIK_DIGITS = 16

_NOT_DIGITS = re.compile(r"\D")
_NOT_LETTERS = re.compile(r"[\W_]+")


def nik_lookup(nik: str) -> str:
    """The digest to store; "" for a value without a digit. Raises ``DataKeyMissing``."""
    return _first(normalised_nik(nik), NIK)


def nik_lookups(nik: str) -> list[str]:
    """The digests with every key; none for a value without a digit."""
    return _all(normalised_nik(nik), NIK)


def name_lookup(name: str) -> str:
    """The digest to store; "" for a value without a letter. Raises ``DataKeyMissing``."""
    return _first(normalised_name(name), NAME)


def name_lookups(name: str) -> list[str]:
    """The digests with every key; none for a value without a letter."""
    return _all(normalised_name(name), NAME)


def picture_lookup(data: bytes) -> str:
    """The digest of an image's bytes, to store."""
    return _first(hashlib.sha256(data).hexdigest(), PICTURE)


def picture_lookups(data: bytes) -> list[str]:
    """The digests of an image's bytes with every key."""
    return _all(hashlib.sha256(data).hexdigest(), PICTURE)


def picture_column(values: Mapping[str, Any]) -> dict[str, str]:
    """The column of a picture with these ``data``, if ``values`` has them."""
    return {"sha256": picture_lookup(values["data"])} if "data" in values else {}


def value_lookups(values: Mapping[str, Any]) -> dict[str, str]:
    """The columns of a reading with these values, by path; those that ``values`` has."""
    columns = {}
    if "nik" in values:
        columns["nik_lookup"] = nik_lookup(values["nik"])
    if "nama" in values:
        columns["name_lookup"] = name_lookup(values["nama"])
    return columns


def normalised_nik(nik: str) -> str:
    """Its digits."""
    return _NOT_DIGITS.sub("", unicodedata.normalize("NFKC", nik))


def normalised_name(name: str) -> str:
    """In capitals, without accents, dots and commas, with single blanks: "Ir. Siti Nur'aini" is "IR SITI NUR AINI"."""
    letters = unicodedata.normalize("NFKD", clean(name))
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return _NOT_LETTERS.sub(" ", plain).strip().upper()


def _first(text: str, place: str) -> str:
    return keyring.ring().first.lookup(text.encode(), place) if text else ""


def _all(text: str, place: str) -> list[str]:
    return keyring.ring().lookups(text.encode(), place) if text else []
