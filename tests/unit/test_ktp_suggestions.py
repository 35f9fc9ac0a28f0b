"""What a value may have been meant as is offered, and never more than that."""

from __future__ import annotations

import pytest

from ocr.reading.suggestions import MAX_SUGGESTIONS, VOCABULARIES, suggest


@pytest.mark.parametrize(
    ("path", "value", "first"),
    [
        ("agama", "ISLM", "ISLAM"),
        ("agama", "KATOLK", "KATOLIK"),
        ("jenis_kelamin", "LAKI LAKI", "LAKI-LAKI"),
        ("jenis_kelamin", "PEREMPUAM", "PEREMPUAN"),
        ("status_perkawinan", "BELUM KAWN", "BELUM KAWIN"),
        ("pekerjaan", "KARYAWAN SWATA", "KARYAWAN SWASTA"),
        ("kewarganegaraan", "WN1", "WNI"),
        ("berlaku_hingga", "SEUMUR HIDIP", "SEUMUR HIDUP"),
        ("berlaku_hingga", "1-2-2020", "01-02-2020"),
        ("tgl_lahir", "2/1/1990", "02-01-1990"),
        ("tgl_lahir", "O2-01-199O", "02-01-1990"),
        ("nik", "31719902O1900OOl", "3171990201900001"),
        ("nik", "3171 9902 0190 0001", "3171990201900001"),
    ],
)
def test_a_near_miss_is_offered_as_what_cards_print(path: str, value: str, first: str) -> None:
    assert suggest(path, value)[0] == first


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("nik", "317199020190000"),  # a digit is missing: nobody knows which
        ("nik", "3171990201900001"),
        ("nik", ""),
        ("tgl_lahir", "02-01-1990"),
        ("tgl_lahir", "yesterday"),
        ("agama", "ISLAM"),
        ("agama", "XYZ"),
        ("nama", "BUDI"),
        ("alamat.name", "JL ISLAM"),
        ("pekerjaan", "GURU"),
        ("kewarganegaraan", "MALAYSIA"),
    ],
)
def test_what_is_right_or_far_from_everything_gets_no_suggestion(path: str, value: str) -> None:
    assert suggest(path, value) == []


def test_there_are_never_many() -> None:
    for path, words in VOCABULARIES.items():
        for word in words:
            assert len(suggest(path, f"{word}X")) <= MAX_SUGGESTIONS
