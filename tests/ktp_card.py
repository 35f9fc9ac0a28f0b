"""A specimen's values, by the paths of the contract: nobody's, and with a number that cannot exist (district 99)."""

from __future__ import annotations

CARD: dict[str, str] = {
    "nik": "3171990101900001",
    "nama": "SPECIMENTO UJIBACA",
    "tempat_lahir": "KOTA KARANGAN",
    "tgl_lahir": "01-01-1990",
    "jenis_kelamin": "LAKI-LAKI",
    "alamat.name": "JL. MAWAR KHAYALAN NO. 7",
    "alamat.rt_rw": "003/004",
    "alamat.kel_desa": "MEKAR KHAYALI",
    "alamat.kecamatan": "TANAH KHAYALI",
    "agama": "HINDU",
    "status_perkawinan": "KAWIN",
    "pekerjaan": "KARYAWAN SWASTA",
    "kewarganegaraan": "WNI",
    "berlaku_hingga": "SEUMUR HIDUP",
}
