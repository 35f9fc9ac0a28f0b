"""The outcomes of the sandbox: for each problem code an answer for which the real checks report this code.

The holder is fictional: district 99 of the NIK does not exist. So every outcome with a whole NIK has the code for that
as well.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from inference.errors import ApiError, OverShare, Unavailable
from ocr.reading.prompt import EXAMPLE
from ocr.reading.schema import as_contract, empty_values

HOLDER: dict[str, str] = {
    "nik": "3171990101900001",
    "nama": "SPECIMENTO UJICOBA",
    "tempat_lahir": "KOTA KARANGAN",
    "tgl_lahir": "01-01-1990",
    "jenis_kelamin": "LAKI-LAKI",
    "alamat.name": "JL. MELATI KHAYALAN NO. 8",
    "alamat.rt_rw": "005/006",
    "alamat.kel_desa": "MEKAR KHAYALI",
    "alamat.kecamatan": "TANAH KHAYALI",
    "agama": "HINDU",
    "status_perkawinan": "KAWIN",
    "pekerjaan": "KARYAWAN SWASTA",
    "kewarganegaraan": "WNI",
    "berlaku_hingga": "SEUMUR HIDUP",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a reading: an answer of the model, a failure, or an error of the API instead."""

    #: the text of the model's answer
    text: str = ""
    finish_reason: str = "stop"
    #: the part of the answer that the model was not sure of
    uncertain: str = ""
    #: the code of the failure
    failure: str = ""
    error: type[ApiError] | None = None
    #: the reading does not end while its caller waits; it is there for a later GET
    is_slow: bool = False


def _json(**changed: str) -> str:
    """The holder's card with other values. A double underscore means the dot of a path."""
    return json.dumps(as_contract(HOLDER | {path.replace("__", "."): value for path, value in changed.items()}))


def _with(text: str, old: str, new: str) -> str:
    return text.replace(old, new, 1)


_WHOLE = _json()
_FOREIGNER = {"kewarganegaraan": "JEPANG", "jenis_kelamin": "MALE"}

OUTCOMES: dict[str, Outcome] = {
    "read": Outcome(_WHOLE),
    # The answer as a whole.
    "no_answer": Outcome(""),
    "not_json": Outcome("Maaf, saya tidak dapat membaca gambar ini."),
    "wrong_shape": Outcome('{"warna": "biru"}'),
    "nothing_read": Outcome(json.dumps(as_contract(empty_values()))),
    "repaired": Outcome(_with(_WHOLE, '"}', '",}')),
    "truncated": Outcome(_WHOLE[: _WHOLE.index('"agama"')], finish_reason="length"),
    "several_answers": Outcome(_json(agama="ISLAM") + _WHOLE),
    "generation_failed": Outcome(failure="generation_failed"),
    "cancelled": Outcome(failure="cancelled"),
    "session_lost": Outcome(failure="session_lost"),
    # The answer's value for one field.
    "wrong_type": Outcome(_with(_WHOLE, '"HINDU"', '["HINDU", "ISLAM"]')),
    "too_long": Outcome(_json(alamat__name="JL. " + "PANJANG " * 40)),
    "cut_value": Outcome(_WHOLE[: _WHOLE.index("HINDU") + 3]),
    "placeholder": Outcome(_json(pekerjaan="tidak terbaca")),
    "example_leak": Outcome(_json(nama=EXAMPLE["nama"])),
    "conflicting_values": Outcome(_with(_WHOLE, '"agama": "HINDU"', '"agama": "HINDU", "religion": "ISLAM"')),
    "other_key": Outcome(_with(_WHOLE, '"agama"', '"religion"')),
    "uncertain": Outcome(_WHOLE, uncertain=HOLDER["nama"]),
    "empty": Outcome(_json(nama="")),
    # The number.
    "nik_not_16_digits": Outcome(_json(nik="317199010190000")),
    "nik_bad_date": Outcome(_json(nik="3171993102900001")),
    "nik_serial_zero": Outcome(_json(nik="3171990101900000")),
    "nik_unknown_province": Outcome(_json(nik="9971990101900001")),
    "nik_bad_regency": Outcome(_json(nik="3100990101900001")),
    "nik_unused_district": Outcome(_WHOLE),
    "nik_birth_date_differs": Outcome(_json(tgl_lahir="02-01-1990")),
    "nik_gender_differs": Outcome(_json(jenis_kelamin="PEREMPUAN")),
    # Dates.
    "date_format": Outcome(_json(tgl_lahir="1 JANUARI 1990")),
    "date_unreal": Outcome(_json(tgl_lahir="31-02-1990")),
    "birth_date_future": Outcome(_json(nik="3171990101990001", tgl_lahir="01-01-2999")),
    "birth_date_too_young": Outcome(_json(nik="3171990101240001", tgl_lahir="01-01-2024")),
    "birth_date_too_old": Outcome(_json(nik="3171990101010001", tgl_lahir="01-01-1801")),
    "expiry_format": Outcome(_json(berlaku_hingga="SEUMUR")),
    "expired_foreigner": Outcome(_json(**_FOREIGNER, berlaku_hingga="01-01-2020")),
    # Vocabularies.
    "unknown_gender": Outcome(_json(jenis_kelamin="TIDAK TENTU")),
    "unknown_religion": Outcome(_json(agama="REKAAN")),
    "unknown_marital_status": Outcome(_json(status_perkawinan="REKAAN")),
    "unknown_occupation": Outcome(_json(pekerjaan="PENJINAK KHAYALAN")),
    "foreign_national": Outcome(_json(**_FOREIGNER)),
    "unknown_nationality": Outcome(_json(kewarganegaraan="WN1")),
    # Names and address.
    "name_has_digits": Outcome(_json(nama="SPEC1MENTO")),
    "name_too_long": Outcome(_json(nama="SPECIMENTO " * 6 + "UJICOBA")),
    "rt_rw_format": Outcome(_json(alamat__rt_rw="5-6")),
    # Errors of the API. Only the last one stores a reading.
    "api_rate_limit": Outcome(error=OverShare),
    "api_unavailable": Outcome(error=Unavailable),
    "api_timeout": Outcome(_WHOLE, is_slow=True),
}
