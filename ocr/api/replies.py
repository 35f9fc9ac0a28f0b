"""What ``/ktp-ocr/`` answers, for validation and for ``/openapi.json``."""

from __future__ import annotations

import datetime
import uuid

from ninja import Field, Schema
from pydantic import ConfigDict

from inference.api.replies import ErrorBody
from ocr.api import examples


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


class QualityOut(Schema):
    """Of the upright picture. Shares are from 0 to 1."""

    width: int = Field(description="Pixels, as stored.")
    height: int
    sharpness: float = Field(description="Fine detail in relation to coarse detail; a sharp picture has about 1.3.")
    brightness: float = Field(description="Of the brightest tenth of the picture.")
    glare: float = Field(description="Share of the picture that is white where the rest has colour.")
    tilt: float = Field(description="Degrees to the right.")
    colour: float = Field(description="Mean difference between the three colours; a copy has none.")
    flags: list[str] = Field(description="Of blurred, low_detail, small, dark, glare, tilted, grey_copy.")


class MetaOut(Schema):
    id: uuid.UUID = Field(description="Of the stored extraction.")
    session_id: str | None = Field(description="Of the generation behind it.")
    state: str = Field(description="read, or failed when the generation did not end well.")
    problems: list[ProblemOut]
    model: str
    seconds: float = Field(description="From the upload to the end of the reading.")
    review: str = Field(description="needs_review, approved or rejected: what a person decided.")
    sandbox: bool = Field(description="The picture is one with a fixed outcome; no model has read it.")
    confidence: dict[str, float | None] = Field(
        description='By key, like "alamat.rt_rw": the probability of the least likely token of the value, as the model '
        "gave it; null for what it did not read, what a person has corrected, and where it is not known."
    )
    quality: QualityOut | None = Field(description="Of the picture; null when the picture was erased.")
    province_code: str | None = Field(description="The first two digits of the NIK: where it was first given out.")
    province: str | None = Field(description="The name of that province, null where the digits name none.")
    city_code: str | None = Field(description="The first four digits of the NIK: the regency or city.")
    city: str | None = Field(description="Always null: the server has no list of regencies and cities.")
    blood_type: str | None = Field(description="Always null: the model is not asked for it.")
    issued_at: str | None = Field(description="The place of issue. Always null: the model is not asked for it.")
    issued_on: str | None = Field(description="The date of issue. Always null: the model is not asked for it.")


class KtpOut(Schema):
    model_config = ConfigDict(json_schema_extra={"example": examples.READING})

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

    model_config = ConfigDict(json_schema_extra={"example": examples.PENDING})

    id: uuid.UUID = Field(description="Of the reading.")
    state: str = Field(description="reading")
    location: str = Field(description="Where to GET the reading, as in the header `Location`.")
    created_at: datetime.datetime


class BatchItemOut(Schema):
    """One picture of a batch, in the place where it was sent."""

    position: int = Field(description="From 0.")
    status: int = Field(description="The HTTP status that the picture would have had alone; 202 while it is read.")
    id: uuid.UUID | None = Field(description="Of the reading.")
    location: str | None = Field(description="Where to GET the reading, and to DELETE it.")
    reading: KtpOut | None = Field(description="Once it has ended.")
    error: ErrorBody | None = Field(description="Where there is no reading.")


class BatchOut(Schema):
    """Several pictures of one request."""

    model_config = ConfigDict(json_schema_extra={"example": examples.BATCH})

    id: uuid.UUID
    state: str = Field(description="reading while one of them is read, then ended.")
    location: str = Field(description="Where to GET this list, for OCR_IDEMPOTENCY_DAYS.")
    created_at: datetime.datetime
    items: list[BatchItemOut]
