"""The values printed on a card, as columns."""

from __future__ import annotations

from django.db import models

from ocr.masking import mask_name, mask_nik
from ocr.schema import FIELDS, MAX_VALUE_CHARS


def _field(label: str) -> models.CharField[str, str]:
    return models.CharField(label, max_length=MAX_VALUE_CHARS, blank=True, default="")


class CardValues(models.Model):
    """One column for each of ``ocr.schema.FIELDS``; the labels are those on the card, which is Indonesian."""

    nik = _field("NIK")
    nama = _field("Nama")
    tempat_lahir = _field("Tempat lahir")
    tgl_lahir = _field("Tanggal lahir")
    jenis_kelamin = _field("Jenis kelamin")
    alamat_name = _field("Alamat")
    alamat_rt_rw = _field("RT/RW")
    alamat_kel_desa = _field("Kel/Desa")
    alamat_kecamatan = _field("Kecamatan")
    agama = _field("Agama")
    status_perkawinan = _field("Status perkawinan")
    pekerjaan = _field("Pekerjaan")
    kewarganegaraan = _field("Kewarganegaraan")
    berlaku_hingga = _field("Berlaku hingga")

    class Meta:
        abstract = True

    @property
    def values(self) -> dict[str, str]:
        """The flat reading as it stands, corrections included."""
        return {field.path: getattr(self, field.column) for field in FIELDS}

    @property
    def masked_nik(self) -> str:
        return mask_nik(self.nik)

    @property
    def masked_name(self) -> str:
        return mask_name(self.nama)
