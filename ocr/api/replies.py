"""The answers of ``/ktp-ocr/``, for validation and for ``/openapi.json``."""

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
    field: str | None = Field(
        description='The key that the problem is about, like "alamat.rt_rw"; null for the whole reading.'
    )
    code: str = Field(description="Stable name of the problem.")
    severity: str = Field(description="error, warning or info.")
    message: str = Field(description="The message in English.")
    pesan: str = Field(description="The message in Indonesian.")


class QualityOut(Schema):
    """Measures of the upright picture. Shares are from 0 to 1."""

    width: int = Field(description="Pixels, as stored.")
    height: int
    sharpness: float = Field(description="Fine detail in relation to coarse detail; a sharp picture has about 1.3.")
    brightness: float = Field(description="Brightness of the brightest tenth of the picture.")
    glare: float = Field(description="Share of the picture that is white while the rest has colour.")
    tilt: float = Field(description="Degrees to the right.")
    colour: float = Field(description="Mean difference between the three colours; a copy has none.")
    flags: list[str] = Field(description="Any of blurred, low_detail, small, dark, glare, tilted, grey_copy.")


class MetaOut(Schema):
    id: uuid.UUID = Field(description="Id of the stored reading.")
    session_id: str | None = Field(description="Id of the session in which the model read the card.")
    state: str = Field(description="read, or failed if the generation failed.")
    problems: list[ProblemOut]
    model: str
    seconds: float = Field(description="From the upload to the end of the reading.")
    review: str = Field(description="needs_review, or a person's decision: approved or rejected.")
    sandbox: bool = Field(
        description="Whether the picture is one of the sandbox, with a fixed outcome; no model has read it."
    )
    confidence: dict[str, float | None] = Field(
        description='By key, like "alamat.rt_rw": the probability of the least likely token of the model\'s value; '
        "null if it was not read, was corrected by a person, or has no known probability."
    )
    quality: QualityOut | None = Field(description="Measures of the picture; null when the picture was erased.")
    province_code: str | None = Field(description="The first two digits of the NIK: the province that first issued it.")
    province: str | None = Field(description="The name of that province; null if there is none with this code.")
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
    """A reading in progress. It contains nothing of the card."""

    model_config = ConfigDict(json_schema_extra={"example": examples.PENDING})

    id: uuid.UUID = Field(description="Id of the reading.")
    state: str = Field(description="Always reading.")
    location: str = Field(description="Path of the reading, as in the header `Location`.")
    created_at: datetime.datetime


class BatchItemOut(Schema):
    """One picture of a batch, in the order in which the pictures were sent."""

    position: int = Field(description="Position in the request, from 0.")
    status: int = Field(
        description="The HTTP status that a request with only this picture would get; 202 while it is being read."
    )
    id: uuid.UUID | None = Field(description="Id of the reading.")
    location: str | None = Field(description="Path of the reading, for GET and DELETE.")
    reading: KtpOut | None = Field(description="The reading, once it has ended.")
    error: ErrorBody | None = Field(description="The error, if there is no reading.")


class BatchOut(Schema):
    """Several pictures of one request."""

    model_config = ConfigDict(json_schema_extra={"example": examples.BATCH})

    id: uuid.UUID
    state: str = Field(description="reading while a picture is being read, then ended.")
    location: str = Field(description="Path of this list, which is kept for OCR_IDEMPOTENCY_DAYS.")
    created_at: datetime.datetime
    items: list[BatchItemOut]
