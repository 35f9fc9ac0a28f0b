"""Map the key names that a model used to the names of the contract.

Only unambiguous names are accepted: the printed labels, the flat names of older readers, and English names with one
meaning. Any other key is ignored, never guessed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ocr.reading import lenient_json
from ocr.reading.problems import Problem
from ocr.reading.schema import FIELDS

#: maximum nesting in wrappers such as {"data": {"ktp": {…}}}
MAX_WRAPPERS = 3

_NOT_A_WORD = re.compile(r"[^a-z0-9]+")

#: keys of values that are printed on one line and split at the last comma
_PLACE_AND_DATE = frozenset({"tempat_tgl_lahir", "tempat_tanggal_lahir", "ttl", "tempat_dan_tanggal_lahir"})

_ALIASES: dict[str, str] = {
    "nomor_induk_kependudukan": "nik",
    "no_nik": "nik",
    "nama_lengkap": "nama",
    "name": "nama",
    "full_name": "nama",
    "place_of_birth": "tempat_lahir",
    "birth_place": "tempat_lahir",
    "tanggal_lahir": "tgl_lahir",
    "date_of_birth": "tgl_lahir",
    "birth_date": "tgl_lahir",
    "gender": "jenis_kelamin",
    "kelamin": "jenis_kelamin",
    "address": "alamat",
    "alamat_lengkap": "alamat.name",
    "alamat_name": "alamat.name",
    "rt_rw": "alamat.rt_rw",
    "rtrw": "alamat.rt_rw",
    "alamat_rt_rw": "alamat.rt_rw",
    "kel_desa": "alamat.kel_desa",
    "kelurahan": "alamat.kel_desa",
    "desa": "alamat.kel_desa",
    "kelurahan_desa": "alamat.kel_desa",
    "alamat_kel_desa": "alamat.kel_desa",
    "kecamatan": "alamat.kecamatan",
    "alamat_kecamatan": "alamat.kecamatan",
    "religion": "agama",
    "status_kawin": "status_perkawinan",
    "marital_status": "status_perkawinan",
    "occupation": "pekerjaan",
    "nationality": "kewarganegaraan",
    "berlaku_sampai": "berlaku_hingga",
    "valid_until": "berlaku_hingga",
}

#: keys inside the nested address, where "name" and "nama" mean the street
_ADDRESS_ALIASES: dict[str, str] = {
    "name": "alamat.name",
    "nama": "alamat.name",
    "jalan": "alamat.name",
    "alamat": "alamat.name",
    "street": "alamat.name",
    **{key: path for key, path in _ALIASES.items() if path.startswith("alamat.")},
}

_TOP_LEVEL: dict[str, str] = {
    **_ALIASES,
    **{item.path: item.path for item in FIELDS if "." not in item.path},
    "alamat": "alamat",
}


@dataclass(slots=True)
class Found:
    """The card's fields that one object contains, with unchanged values."""

    values: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def put(self, path: str, value: Any, *, exact: bool) -> None:
        """Add a value. The contract's own key wins over other spellings; two different values are a problem."""
        known = self.values.get(path)
        if known and value and known != value:
            self.problems.append(Problem(path, "conflicting_values"))
        if exact or not known:
            self.values[path] = value
        if not exact:
            self.problems.append(Problem(path, "other_key", "info"))


def find_fields(value: Any) -> Found:
    """The fields of the object ``value``, or of the wrapped object inside it that has the most fields."""
    best = Found()
    if isinstance(value, Mapping):
        best = _fields_of(value)
    level = [value]
    for _ in range(MAX_WRAPPERS):
        level = [inner for outer in level for inner in _inside(outer)]
        for inner in level:
            found = _fields_of(inner) if isinstance(inner, Mapping) else Found()
            if len(found.values) > len(best.values):
                best = found
    return best


def _inside(value: Any) -> list[Any]:
    members = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [member for member in members if isinstance(member, Mapping | list)]


def _fields_of(members: Mapping[str, Any]) -> Found:
    found = Found()
    # The contract's own keys come first, so that they win in any order.
    for key, value in sorted(members.items(), key=lambda item: item[0] not in _TOP_LEVEL.values()):
        name = normalise_key(key)
        if name in _PLACE_AND_DATE:
            _put_place_and_date(found, value)
        elif (path := _TOP_LEVEL.get(name)) == "alamat":
            _put_address(found, value)
        elif path is not None:
            found.put(path, value, exact=key == path)
    return found


def _put_address(found: Found, value: Any) -> None:
    if not isinstance(value, Mapping):
        # An address in one line instead of four members is kept whole, because splitting it would be guessing.
        found.put("alamat.name", value, exact=isinstance(value, str))
        return
    parts = {normalise_key(key): item for key, item in value.items()}
    for name, item in parts.items():
        if (path := _ADDRESS_ALIASES.get(name)) is not None:
            found.put(path, item, exact=path == f"alamat.{name}")
    if isinstance(rt := parts.get("rt"), str) and isinstance(rw := parts.get("rw"), str) and "rt_rw" not in parts:
        found.put("alamat.rt_rw", f"{rt}/{rw}" if rt and rw else "", exact=False)


def _put_place_and_date(found: Found, value: Any) -> None:
    if value is lenient_json.CUT or not isinstance(value, str):
        found.put("tempat_lahir", value, exact=False)
        return
    place, comma, date = value.rpartition(",")
    found.put("tempat_lahir", place if comma else value, exact=False)
    if comma:
        found.put("tgl_lahir", date, exact=False)


def normalise_key(key: str) -> str:
    """Lower case, words joined by one underscore: "Tempat/Tgl Lahir" is "tempat_tgl_lahir"."""
    plain = unicodedata.normalize("NFKC", key).casefold()
    return _NOT_A_WORD.sub("_", plain).strip("_")
