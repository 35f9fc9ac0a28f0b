"""The fictional person of a specimen: what the card prints, and so what a reader must answer."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from random import Random

from ocr.reading.vocabularies import PROVINCES
from ocr.specimens import names, word_lists

#: district code of a specimen's NIK: real codes end at 68, so no person can have the number
IMPOSSIBLE_DISTRICT = 99

#: share of specimens whose NIK disagrees with the rest, as on some genuine cards: a reader must not infer one from the
#: other
DISAGREES = 0.08
FOREIGNERS = 0.05


@dataclass(frozen=True, slots=True)
class Holder:
    """What one card prints."""

    #: flat values keyed by ``Field.path``; "" where the card prints nothing
    values: dict[str, str]
    #: the two lines of the header
    province: str
    regency: str
    blood_type: str
    #: below the photograph
    issued_at: str
    issued_on: str
    foreign: bool


def make_holder(random: Random) -> Holder:
    """Draw a person."""
    foreign = random.random() < FOREIGNERS
    female = random.random() < 0.5
    province_code = random.choice(tuple(PROVINCES))
    regency, regency_code = _regency(random, province_code)
    born = _day(random, 1940, 2007)
    issued = _day(random, 2011, 2025)
    values = {
        "nik": _nik(random, province_code, regency_code, born, female),
        "nama": names.person(random, female),
        "tempat_lahir": names.place(random) if random.random() < 0.6 else regency.removeprefix("KABUPATEN "),
        "tgl_lahir": _date(born),
        **_address(random),
    }
    if foreign:
        values |= {
            "jenis_kelamin": word_lists.FOREIGN_GENDERS["P" if female else "L"],
            "agama": random.choice(word_lists.FOREIGN_RELIGIONS),
            "status_perkawinan": random.choice(word_lists.FOREIGN_STATUSES),
            "pekerjaan": random.choice(word_lists.FOREIGN_OCCUPATIONS),
            "kewarganegaraan": random.choice(word_lists.COUNTRIES),
            "berlaku_hingga": _date(_day(random, 2024, 2032)),
        }
    else:
        values |= {
            "jenis_kelamin": "PEREMPUAN" if female else "LAKI-LAKI",
            "agama": random.choice(word_lists.RELIGIONS),
            "status_perkawinan": random.choice(word_lists.MARITAL_STATUSES),
            "pekerjaan": random.choice(
                word_lists.COMMON_OCCUPATIONS if random.random() < 0.4 else word_lists.OCCUPATIONS_IN_ORDER
            ),
            "kewarganegaraan": "WNI",
            "berlaku_hingga": "SEUMUR HIDUP" if random.random() < 0.7 else _date(_day(random, 2016, 2024)),
        }
    for path in ("tgl_lahir", "alamat.rt_rw", "pekerjaan", "status_perkawinan"):
        if random.random() < 0.01:
            values[path] = ""
    return Holder(
        values=values,
        province=f"PROVINSI {PROVINCES[province_code]}",
        regency=regency,
        blood_type=random.choice(word_lists.BLOOD_TYPES),
        issued_at=regency.removeprefix("KABUPATEN "),
        issued_on=_date(issued),
        foreign=foreign,
    )


def _regency(random: Random, province_code: str) -> tuple[str, int]:
    # Jakarta's cities are printed without the word.
    if province_code == "31":
        number = random.randrange(len(word_lists.JAKARTA_CITIES))
        return word_lists.JAKARTA_CITIES[number], 71 + number
    if random.random() < 0.25:
        return f"KOTA {names.place(random)}", random.randint(71, 79)
    return f"KABUPATEN {names.place(random)}", random.randint(1, 29)


def _nik(random: Random, province: str, regency: int, born: datetime.date, female: bool) -> str:
    serial = random.randint(1, 9999)
    if random.random() < DISAGREES:
        slip = random.choice(("serial", "gender", "date", "region"))
        serial = 0 if slip == "serial" else serial
        female = female is not (slip == "gender")
        born = _day(random, 1940, 2007) if slip == "date" else born
        province = random.choice(tuple(PROVINCES)) if slip == "region" else province
    day = born.day + 40 * female
    return f"{province}{regency:02d}{IMPOSSIBLE_DISTRICT}{day:02d}{born:%m%y}{serial:04d}"


def _address(random: Random) -> dict[str, str]:
    street = f"{random.choice(word_lists.ROADS)} {names.place(random)}"
    if random.random() < 0.65:
        street += random.choice((" NO. ", " NO.", " NO ", " BLOK " + random.choice("ABCDEFGHKL") + " NO. ", " BLOK "))
        street += str(random.randint(1, 250)) + random.choice(("", "", "", "A", "B", "/" + str(random.randint(1, 30))))
    elif random.random() < 0.3:
        street += f" RT {random.randint(1, 30):03d}"
    neighbourhood = f"{random.randint(0, 30):03d}/{random.randint(0, 25):03d}"
    if random.random() < 0.03:
        neighbourhood = random.choice((f"{random.randint(1, 30):03d}/-", f"-/{random.randint(1, 25):03d}", "-/-"))
    return {
        "alamat.name": street,
        "alamat.rt_rw": neighbourhood,
        "alamat.kel_desa": names.place(random),
        "alamat.kecamatan": names.place(random),
    }


def _day(random: Random, first: int, last: int) -> datetime.date:
    start = datetime.date(first, 1, 1)
    return start + datetime.timedelta(days=random.randrange((datetime.date(last, 12, 31) - start).days))


def _date(day: datetime.date) -> str:
    return f"{day:%d-%m-%Y}"
