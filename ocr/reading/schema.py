"""The card's fields: their order, their names in the contract, their labels on the card.

Inside the code a reading is flat, ``{"alamat.rt_rw": "001/002", …}``, keyed by ``Field.path``. On the wire it has the
eleven keys of the contract, with the four parts of the address nested under ``alamat``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from django.utils.translation import get_language

#: the longest value kept; a card's line holds about 40 characters
MAX_VALUE_CHARS = 200


@dataclass(frozen=True, slots=True)
class Field:
    """One value printed on the card."""

    #: its place in the contract; a dot means a member of ``alamat``
    path: str
    #: as printed on the card
    label: str
    #: in English, for a reader who does not know the card
    label_en: str
    #: it says who the holder is, so it must never come from anywhere but the image
    identifying: bool = False
    #: it is masked on every screen until it is revealed
    is_hidden: bool = False

    @property
    def name(self) -> str:
        """What to call it in the language of the page."""
        return self.label if get_language() == "id" else self.label_en

    @property
    def column(self) -> str:
        """The name of the model's column."""
        return self.path.replace(".", "_")


FIELDS: tuple[Field, ...] = (
    Field("nik", "NIK", "Identity number", identifying=True, is_hidden=True),
    Field("nama", "Nama", "Name", identifying=True),
    Field("tempat_lahir", "Tempat Lahir", "Place of birth", identifying=True),
    Field("tgl_lahir", "Tanggal Lahir", "Date of birth", is_hidden=True),
    Field("jenis_kelamin", "Jenis Kelamin", "Gender"),
    Field("alamat.name", "Alamat", "Address", identifying=True),
    Field("alamat.rt_rw", "RT/RW", "Neighbourhood"),
    Field("alamat.kel_desa", "Kel/Desa", "Village", identifying=True),
    Field("alamat.kecamatan", "Kecamatan", "District", identifying=True),
    Field("agama", "Agama", "Religion"),
    Field("status_perkawinan", "Status Perkawinan", "Marital status"),
    Field("pekerjaan", "Pekerjaan", "Occupation"),
    Field("kewarganegaraan", "Kewarganegaraan", "Nationality"),
    Field("berlaku_hingga", "Berlaku Hingga", "Valid until"),
)

HIDDEN_FIELDS = tuple(field for field in FIELDS if field.is_hidden)
FIELD_BY_PATH: dict[str, Field] = {field.path: field for field in FIELDS}


class Alamat(TypedDict):
    """The address; ``name`` is its first line."""

    name: str
    rt_rw: str
    kel_desa: str
    kecamatan: str


class KtpFields(TypedDict):
    """The eleven keys of the contract: all present, every value a string (``alamat``: four), "" if not read."""

    nik: str
    nama: str
    tempat_lahir: str
    tgl_lahir: str
    jenis_kelamin: str
    alamat: Alamat
    agama: str
    status_perkawinan: str
    pekerjaan: str
    kewarganegaraan: str
    berlaku_hingga: str


def empty_values() -> dict[str, str]:
    """A flat reading in which nothing was read."""
    return {field.path: "" for field in FIELDS}


def as_contract(values: Mapping[str, str]) -> KtpFields:
    """The flat reading ``values`` as the contract's nested object; what is missing becomes ""."""
    nested: dict[str, Any] = {}
    for field in FIELDS:
        parent, dot, leaf = field.path.partition(".")
        value = values.get(field.path, "")
        if dot:
            nested.setdefault(parent, {})[leaf] = value
        else:
            nested[parent] = value
    return nested  # type: ignore[return-value]  # built from FIELDS, which a test compares with the TypedDict


def from_contract(contract: Mapping[str, Any]) -> dict[str, str]:
    """The flat reading of the contract's nested object; what is missing or no text becomes ""."""
    values: dict[str, str] = {}
    for field in FIELDS:
        parent, dot, leaf = field.path.partition(".")
        value = contract.get(parent)
        if dot:
            value = value.get(leaf) if isinstance(value, Mapping) else None
        values[field.path] = value if isinstance(value, str) else ""
    return values
