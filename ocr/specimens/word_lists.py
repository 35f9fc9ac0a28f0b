"""What specimens print where the value comes from a list: regions, foreigners' English, and words of addresses."""

from __future__ import annotations

from ocr.reading.vocabularies import OCCUPATIONS

PROVINCES: dict[str, str] = {
    "11": "ACEH",
    "12": "SUMATERA UTARA",
    "13": "SUMATERA BARAT",
    "14": "RIAU",
    "15": "JAMBI",
    "16": "SUMATERA SELATAN",
    "17": "BENGKULU",
    "18": "LAMPUNG",
    "19": "KEPULAUAN BANGKA BELITUNG",
    "21": "KEPULAUAN RIAU",
    "31": "DKI JAKARTA",
    "32": "JAWA BARAT",
    "33": "JAWA TENGAH",
    "34": "DAERAH ISTIMEWA YOGYAKARTA",
    "35": "JAWA TIMUR",
    "36": "BANTEN",
    "51": "BALI",
    "52": "NUSA TENGGARA BARAT",
    "53": "NUSA TENGGARA TIMUR",
    "61": "KALIMANTAN BARAT",
    "62": "KALIMANTAN TENGAH",
    "63": "KALIMANTAN SELATAN",
    "64": "KALIMANTAN TIMUR",
    "65": "KALIMANTAN UTARA",
    "71": "SULAWESI UTARA",
    "72": "SULAWESI TENGAH",
    "73": "SULAWESI SELATAN",
    "74": "SULAWESI TENGGARA",
    "75": "GORONTALO",
    "76": "SULAWESI BARAT",
    "81": "MALUKU",
    "82": "MALUKU UTARA",
    "91": "PAPUA",
    "92": "PAPUA BARAT",
    "93": "PAPUA SELATAN",
    "94": "PAPUA TENGAH",
    "95": "PAPUA PEGUNUNGAN",
    "96": "PAPUA BARAT DAYA",
}
JAKARTA_CITIES = ("JAKARTA PUSAT", "JAKARTA UTARA", "JAKARTA BARAT", "JAKARTA SELATAN", "JAKARTA TIMUR")

# Sorted: the order of a set of strings differs from run to run, and a specimen must not.
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
