"""The text of each problem code, in Indonesian and English. Codes are stable; texts may change.

No text contains a value of the card, so problems can be logged and listed without personal data.
"""

from __future__ import annotations

from typing import NamedTuple


class Text(NamedTuple):
    """One message in both languages."""

    id: str
    en: str


TEXTS: dict[str, Text] = {
    # The answer as a whole.
    "no_answer": Text("Model tidak memberi jawaban.", "The model gave no answer."),
    "not_json": Text("Jawaban model bukan JSON yang dapat dibaca.", "The model's answer is not JSON that can be read."),
    "wrong_shape": Text(
        "Jawaban model tidak memuat satu pun kolom KTP.", "The model's answer holds none of the card's fields."
    ),
    "repaired": Text(
        "JSON dari model cacat dan dibaca dengan perbaikan.",
        "The model's JSON was malformed and was read with repairs.",
    ),
    "truncated": Text(
        "Jawaban model terpotong; kolom sesudahnya kosong.", "The model's answer was cut off; later fields are empty."
    ),
    "several_answers": Text(
        "Model memberi lebih dari satu jawaban yang berbeda; satu dipakai.",
        "The model gave more than one answer and they differ; one was used.",
    ),
    "nothing_read": Text(
        "Tidak ada yang terbaca. Mungkin gambar ini bukan KTP.", "Nothing was read. This may not be a KTP."
    ),
    "generation_failed": Text("Pembacaan gagal di server.", "The reading failed on the server."),
    "cancelled": Text("Pembacaan dibatalkan.", "The reading was cancelled."),
    "session_lost": Text(
        "Sesi pembacaan hilang sebelum selesai.", "The session of this reading was lost before it finished."
    ),
    # One value of the answer.
    "wrong_type": Text("Model memberi nilai yang bukan teks.", "The model gave a value that is not text."),
    "too_long": Text(
        "Nilai terlalu panjang untuk sebuah kartu dan dikosongkan.", "The value is too long for a card and was dropped."
    ),
    "cut_value": Text(
        "Nilai terpotong di tengah dan dikosongkan.", "The value was cut off in the middle and was dropped."
    ),
    "placeholder": Text(
        "Model mengulang contoh isian, bukan isi kartu; dikosongkan.",
        "The model repeated a placeholder, not the card; the value was dropped.",
    ),
    "example_leak": Text(
        "Nilai ini berasal dari contoh dalam perintah, bukan dari kartu; dikosongkan.",
        "This value comes from the example in the prompt, not from the card; it was dropped.",
    ),
    "conflicting_values": Text(
        "Model memberi dua nilai berbeda untuk kolom ini.", "The model gave two different values for this field."
    ),
    "other_key": Text("Model memakai nama kolom lain.", "The model used another name for this field."),
    "uncertain": Text(
        "Model tidak yakin akan nilai ini. Bandingkan dengan gambar.",
        "The model is not sure of this value. Compare it with the picture.",
    ),
    # Presence.
    "empty": Text("Tidak terbaca.", "Could not be read."),
    # NIK.
    "nik_not_16_digits": Text("NIK harus 16 angka.", "A NIK has 16 digits."),
    "nik_bad_date": Text(
        "Angka ke-7 sampai ke-12 NIK bukan tanggal yang ada.", "Digits 7 to 12 of the NIK are no real date."
    ),
    "nik_serial_zero": Text("Nomor urut NIK tidak pernah 0000.", "The serial number of a NIK is never 0000."),
    "nik_unknown_province": Text(
        "Dua angka pertama NIK bukan kode provinsi.", "The first two digits of the NIK are no province's code."
    ),
    "nik_bad_regency": Text(
        "Angka ke-3 dan ke-4 NIK bukan kode kabupaten atau kota.",
        "Digits 3 and 4 of the NIK are no regency's or city's code.",
    ),
    "nik_unused_district": Text(
        "Kode kecamatan dalam NIK tidak dikenal.", "The district code in the NIK is not known to be in use."
    ),
    "nik_birth_date_differs": Text(
        "Tanggal lahir dalam NIK berbeda dari yang tercetak. Periksa keduanya; kartu asli pun dapat begini.",
        "The birth date in the NIK differs from the printed one. Check both; genuine cards can be so.",
    ),
    "nik_gender_differs": Text(
        "Jenis kelamin dalam NIK berbeda dari yang tercetak. Periksa keduanya; kartu asli pun dapat begini.",
        "The gender in the NIK differs from the printed one. Check both; genuine cards can be so.",
    ),
    # Dates.
    "date_format": Text("Bukan tanggal HH-BB-TTTT.", "Not a date DD-MM-YYYY."),
    "date_unreal": Text("Tanggal ini tidak ada di kalender.", "This date is not in the calendar."),
    "birth_date_future": Text("Tanggal lahir di masa depan.", "The birth date lies in the future."),
    "birth_date_too_young": Text(
        "Menurut tanggal lahir, pemegang belum 16 tahun.", "By the birth date the holder is under 16."
    ),
    "birth_date_too_old": Text(
        "Menurut tanggal lahir, pemegang lebih dari 120 tahun.", "By the birth date the holder is over 120."
    ),
    "expiry_format": Text(
        "Bukan SEUMUR HIDUP dan bukan tanggal HH-BB-TTTT.", "Neither SEUMUR HIDUP nor a date DD-MM-YYYY."
    ),
    "expired_foreigner": Text(
        "Kartu orang asing ini sudah lewat masa berlakunya.", "This foreigner's card is past its date."
    ),
    # Vocabularies.
    "unknown_gender": Text("Bukan LAKI-LAKI atau PEREMPUAN.", "Neither LAKI-LAKI (male) nor PEREMPUAN (female)."),
    "unknown_religion": Text(
        "Bukan agama atau kepercayaan yang biasa tercetak.", "Not a religion or belief that cards usually print."
    ),
    "unknown_marital_status": Text(
        "Bukan status perkawinan yang biasa tercetak.", "Not a marital status that cards usually print."
    ),
    "unknown_occupation": Text(
        "Bukan salah satu dari 99 pekerjaan baku; kartu lama dapat berbeda.",
        "Not one of the 99 standard occupations; older cards may differ.",
    ),
    "foreign_national": Text(
        "Kewarganegaraan bukan WNI: kartu orang asing?", "The nationality is not WNI: a foreigner's card?"
    ),
    "unknown_nationality": Text(
        "Bukan WNI dan bukan nama negara.", "Neither WNI (Indonesian) nor the name of a country."
    ),
    # Names and address.
    "name_has_digits": Text("Nama berisi angka.", "The name holds digits."),
    "name_too_long": Text("Nama lebih dari 60 huruf.", "The name is longer than 60 characters."),
    "rt_rw_format": Text("RT/RW biasanya berbentuk 001/002.", "RT/RW usually looks like 001/002."),
}


def text_of(code: str) -> Text:
    """The text of ``code``; for a code of another release, the code itself."""
    return TEXTS.get(code) or Text(code, code)
