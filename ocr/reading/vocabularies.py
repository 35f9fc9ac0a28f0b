"""What cards usually print. Reference lists: an unknown value is at most flagged, never rejected."""

from __future__ import annotations

#: codes of the 38 provinces in NIKs, the Ministry of Home Affairs' (the statistics office numbers Papua otherwise)
# fmt: off
PROVINCE_CODES: frozenset[str] = frozenset(
    {
        "11", "12", "13", "14", "15", "16", "17", "18", "19",
        "21",
        "31", "32", "33", "34", "35", "36",
        "51", "52", "53",
        "61", "62", "63", "64", "65",
        "71", "72", "73", "74", "75", "76",
        "81", "82",
        "91", "92", "93", "94", "95", "96",
    }
)
# fmt: on

#: the highest district code in any public table since 2018
HIGHEST_DISTRICT_CODE = 68

MALE: frozenset[str] = frozenset({"LAKI-LAKI", "MALE"})
FEMALE: frozenset[str] = frozenset({"PEREMPUAN", "FEMALE"})
GENDERS: frozenset[str] = frozenset({"LAKI-LAKI", "PEREMPUAN"})

RELIGIONS: frozenset[str] = frozenset(
    {
        "-",
        "ISLAM",
        "KRISTEN",
        "KRISTEN PROTESTAN",
        "PROTESTAN",
        "KATOLIK",
        "KATHOLIK",
        "HINDU",
        "BUDHA",
        "BUDDHA",
        "KONGHUCU",
        "KHONGHUCU",
        "KONG HU CU",
        "KEPERCAYAAN TERHADAP TUHAN YME",
        "KEPERCAYAAN TERHADAP TUHAN YANG MAHA ESA",
    }
)

MARITAL_STATUSES: frozenset[str] = frozenset({"BELUM KAWIN", "KAWIN", "CERAI HIDUP", "CERAI MATI"})

#: nationality of an Indonesian; foreigners' cards print the country's name
CITIZEN = "WNI"

LIFETIME = "SEUMUR HIDUP"

#: the 99 kinds of form F-1.01 (Regulation 109/2019 of the Minister of Home Affairs)
OCCUPATIONS: frozenset[str] = frozenset(
    {
        "BELUM/TIDAK BEKERJA",
        "MENGURUS RUMAH TANGGA",
        "PELAJAR/MAHASISWA",
        "PENSIUNAN",
        "PEGAWAI NEGERI SIPIL",
        "TENTARA NASIONAL INDONESIA",
        "KEPOLISIAN RI",
        "PERDAGANGAN",
        "PETANI/PEKEBUN",
        "PETERNAK",
        "NELAYAN/PERIKANAN",
        "INDUSTRI",
        "KONSTRUKSI",
        "TRANSPORTASI",
        "KARYAWAN SWASTA",
        "KARYAWAN BUMN",
        "KARYAWAN BUMD",
        "KARYAWAN HONORER",
        "BURUH HARIAN LEPAS",
        "BURUH TANI/PERKEBUNAN",
        "BURUH NELAYAN/PERIKANAN",
        "BURUH PETERNAKAN",
        "PEMBANTU RUMAH TANGGA",
        "TUKANG CUKUR",
        "TUKANG LISTRIK",
        "TUKANG BATU",
        "TUKANG KAYU",
        "TUKANG SOL SEPATU",
        "TUKANG LAS/PANDAI BESI",
        "TUKANG JAHIT",
        "TUKANG GIGI",
        "PENATA RIAS",
        "PENATA BUSANA",
        "PENATA RAMBUT",
        "MEKANIK",
        "SENIMAN",
        "TABIB",
        "PARAJI",
        "PERANCANG BUSANA",
        "PENTERJEMAH",
        "IMAM MASJID",
        "PENDETA",
        "PASTOR",
        "WARTAWAN",
        "USTADZ/MUBALIGH",
        "JURU MASAK",
        "PROMOTOR ACARA",
        "ANGGOTA DPR-RI",
        "ANGGOTA DPD",
        "ANGGOTA BPK",
        "PRESIDEN",
        "WAKIL PRESIDEN",
        "ANGGOTA MAHKAMAH KONSTITUSI",
        "ANGGOTA KABINET/KEMENTERIAN",
        "DUTA BESAR",
        "GUBERNUR",
        "WAKIL GUBERNUR",
        "BUPATI",
        "WAKIL BUPATI",
        "WALIKOTA",
        "WAKIL WALIKOTA",
        "ANGGOTA DPRD PROVINSI",
        "ANGGOTA DPRD KABUPATEN/KOTA",
        "DOSEN",
        "GURU",
        "PILOT",
        "PENGACARA",
        "NOTARIS",
        "ARSITEK",
        "AKUNTAN",
        "KONSULTAN",
        "DOKTER",
        "BIDAN",
        "PERAWAT",
        "APOTEKER",
        "PSIKIATER/PSIKOLOG",
        "PENYIAR TELEVISI",
        "PENYIAR RADIO",
        "PELAUT",
        "PENELITI",
        "SOPIR",
        "PIALANG",
        "PARANORMAL",
        "PEDAGANG",
        "PERANGKAT DESA",
        "KEPALA DESA",
        "BIARAWATI",
        "WIRASWASTA",
        "ANGGOTA LEMBAGA TINGGI",
        "ARTIS",
        "ATLIT",
        "CHEF",
        "MANAJER",
        "TENAGA TATA USAHA",
        "OPERATOR",
        "PEKERJA PENGOLAHAN, KERAJINAN",
        "TEKNISI",
        "ASISTEN AHLI",
        "LAINNYA",
    }
)
