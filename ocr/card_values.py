"""The values printed on a card, as columns."""

from __future__ import annotations

from django.db import models
from django.utils.functional import lazy

from ocr.masking import mask_name, mask_nik
from ocr.reading.schema import FIELD_BY_PATH, FIELDS, MAX_VALUE_CHARS
from sessions_app.encryption.fields import EncryptedCharField


def _name(path: str) -> str:
    return FIELD_BY_PATH[path].name


def _field(path: str) -> EncryptedCharField:
    # Lazy, so that it is translated into the language of the page.
    name = lazy(_name, str)(path)
    return EncryptedCharField(name, max_length=MAX_VALUE_CHARS, blank=True, default="")


class CardValues(models.Model):
    """One column for each of ``ocr.reading.schema.FIELDS``."""

    nik = _field("nik")
    nama = _field("nama")
    tempat_lahir = _field("tempat_lahir")
    tgl_lahir = _field("tgl_lahir")
    jenis_kelamin = _field("jenis_kelamin")
    alamat_name = _field("alamat.name")
    alamat_rt_rw = _field("alamat.rt_rw")
    alamat_kel_desa = _field("alamat.kel_desa")
    alamat_kecamatan = _field("alamat.kecamatan")
    agama = _field("agama")
    status_perkawinan = _field("status_perkawinan")
    pekerjaan = _field("pekerjaan")
    kewarganegaraan = _field("kewarganegaraan")
    berlaku_hingga = _field("berlaku_hingga")

    # With defaults in the database, because processes of an older version insert rows without them.
    nik_lookup = models.CharField(
        max_length=64, blank=True, default="", db_default="", editable=False, help_text="See ocr.lookup."
    )
    name_lookup = models.CharField(max_length=64, blank=True, default="", db_default="", editable=False)

    class Meta:
        abstract = True

    @property
    def values(self) -> dict[str, str]:
        """The current flat reading, corrections included."""
        return {field.path: getattr(self, field.column) for field in FIELDS}

    @property
    def masked_nik(self) -> str:
        return mask_nik(self.nik)

    @property
    def masked_name(self) -> str:
        return mask_name(self.nama)
