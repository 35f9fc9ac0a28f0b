"""What ``/ktp-ocr/`` answers, for validation and for ``/openapi.json``."""

from __future__ import annotations

import datetime
import uuid

from ninja import Field, Schema


class AlamatOut(Schema):
    name: str
    rt_rw: str
    kel_desa: str
    kecamatan: str


class ProblemOut(Schema):
    field: str | None = Field(description='The key it is about, like "alamat.rt_rw"; null for the whole reading.')
    code: str = Field(description="Stable name of the problem.")
    severity: str = Field(description="error, warning or info.")
    message: str = Field(description="In English.")
    pesan: str = Field(description="In Indonesian.")


class MetaOut(Schema):
    id: uuid.UUID = Field(description="Of the stored extraction.")
    session_id: str | None = Field(description="Of the generation behind it.")
    state: str = Field(description="read, or failed when the generation did not end well.")
    problems: list[ProblemOut]
    model: str
    seconds: float = Field(description="From the upload to the end of the reading.")


class KtpOut(Schema):
    nik: str
    nama: str
    tempat_lahir: str
    tgl_lahir: str
    jenis_kelamin: str
    alamat: AlamatOut
    agama: str
    status_perkawinan: str
    pekerjaan: str
    kewarganegaraan: str
    berlaku_hingga: str
    meta: MetaOut


class PendingOut(Schema):
    """A reading that has not ended yet. It holds nothing of the card."""

    id: uuid.UUID = Field(description="Of the reading.")
    state: str = Field(description="reading")
    location: str = Field(description="Where to GET the reading, as in the header `Location`.")
    created_at: datetime.datetime
