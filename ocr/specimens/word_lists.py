"""Words that specimens print: cities, occupations, foreigners' English, and words of addresses."""

from __future__ import annotations

from ocr.reading.vocabularies import OCCUPATIONS

JAKARTA_CITIES = ("JAKARTA PUSAT", "JAKARTA UTARA", "JAKARTA BARAT", "JAKARTA SELATAN", "JAKARTA TIMUR")

# Sorted, because the order of a set of strings differs from run to run and a specimen must not.
OCCUPATIONS_IN_ORDER: tuple[str, ...] = tuple(sorted(OCCUPATIONS))
COMMON_OCCUPATIONS = (
    "KARYAWAN SWASTA",
    "WIRASWASTA",
    "PELAJAR/MAHASISWA",
    "MENGURUS RUMAH TANGGA",
    "BELUM/TIDAK BEKERJA",
    "PEGAWAI NEGERI SIPIL",
    "PETANI/PEKEBUN",
    "BURUH HARIAN LEPAS",
    "GURU",
)

BLOOD_TYPES = ("A", "B", "AB", "O", "A+", "B+", "AB+", "O+", "A-", "B-", "AB-", "O-", "-", "-", "-")
RELIGIONS = (
    *("ISLAM",) * 6,
    *("KRISTEN", "KATOLIK", "HINDU", "BUDHA") * 2,
    "KONGHUCU",
    "BUDDHA",
    "KHONGHUCU",
    "KEPERCAYAAN TERHADAP TUHAN YME",
    "KEPERCAYAAN TERHADAP TUHAN YANG MAHA ESA",
    "-",
    "",
)
MARITAL_STATUSES = ("BELUM KAWIN", "KAWIN", "CERAI HIDUP", "CERAI MATI")

ROADS = ("JL.", "JL", "JALAN", "GG.", "DUSUN", "KP.", "KAMPUNG", "PERUM", "KOMP.", "DSN.", "LINGK.", "BTN", "JLN.")

# Foreigners' cards are partly in English.
FOREIGN_GENDERS = {"L": "MALE", "P": "FEMALE"}
FOREIGN_RELIGIONS = ("CHRISTIAN", "CATHOLIC", "MUSLIM", "HINDU", "BUDDHIST", "CONFUCIAN", "ISLAM", "-")
FOREIGN_STATUSES = ("SINGLE", "MARRIED", "DIVORCED", "WIDOWED")
FOREIGN_OCCUPATIONS = (
    "ENTREPRENEUR",
    "STUDENT",
    "TEACHER",
    "ENGINEER",
    "CONSULTANT",
    "HOUSEWIFE",
    "INVESTOR",
    "MANAGER",
    "RETIRED",
    "LECTURER",
    "PRIVATE EMPLOYEE",
    "OTHERS",
)
COUNTRIES = (
    "AUSTRALIA",
    "BELGIA",
    "BRASIL",
    "CINA",
    "FILIPINA",
    "INDIA",
    "INGGRIS",
    "ITALIA",
    "JEPANG",
    "JERMAN",
    "KANADA",
    "KOREA SELATAN",
    "MALAYSIA",
    "MESIR",
    "BELANDA",
    "PAKISTAN",
    "PERANCIS",
    "RUSIA",
    "SELANDIA BARU",
    "SINGAPURA",
    "SPANYOL",
    "SWISS",
    "THAILAND",
    "TURKI",
    "AMERIKA SERIKAT",
    "VIETNAM",
)
