"""``POST /ktp-ocr/``: takes a picture of a card; returns the eleven keys, and ``meta`` with problems and state."""

from __future__ import annotations

import uuid
from typing import Any, cast

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from ninja import Field, Router, Schema

from inference.api.auth import caller_of
from inference.api.body import read_upload
from inference.errors import ApiError, InvalidRequest, TimedOut, Unavailable
from inference.generations import wait_for_answer
from inference.readiness import check_model_available
from ocr.card_image import check_size, make_ready
from ocr.extraction import complete_extraction, start_extraction
from ocr.models import KtpExtraction
from ocr.reading.schema import as_contract
from sessions_app.db import in_db
from sessions_app.models import ChatSession
from sessions_app.request_id import current_request_id

router = Router(tags=["ktp"])

DESCRIPTION = """\
Reads an Indonesian identity card (KTP). Send the picture as the multipart field `image`:
JPEG, PNG, WebP, HEIC, AVIF, TIFF, BMP, GIF, or a PDF, of which the first page is read.

Two files are refused: a card is read from one picture.

The answer always has the same eleven keys, every value a string (`alamat` an object of four). What could not be read is
`""`, and `meta.problems` says why.
Problems flag what a person should look at; they never change or reject a value. Every reading is stored and can be
reviewed under `meta.id`.
"""


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


# Both spellings: a POST cannot be redirected to the one with the slash without losing its body.
@router.post("/ktp-ocr", response=KtpOut, include_in_schema=False)
@router.post(
    "/ktp-ocr/",
    response=KtpOut,
    summary="Read an identity card",
    description=DESCRIPTION,
    openapi_extra={
        "requestBody": {
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["image"],
                        "properties": {"image": {"type": "string", "format": "binary"}},
                    }
                }
            },
            "required": True,
        }
    },
)
async def read_ktp(request: HttpRequest, response: HttpResponse) -> dict[str, Any]:
    image = await read_upload(request, "image", check_size)
    if image is None:
        raise InvalidRequest(
            "Send the picture of the card as a file in the multipart/form-data field image.", param="image"
        )
    await check_model_available()
    extraction = await start_extraction(
        image=await make_ready(image.data),
        file_name=image.name,
        caller=caller_of(request),
        request_id=current_request_id(),
    )
    session = cast("ChatSession", extraction.session)  # what was started has one
    response.headers["X-Session-ID"] = session.pk
    answer = await wait_for_answer(session, timeout_seconds=settings.OCR_TIMEOUT_SECONDS)
    if answer is None:
        raise TimedOut(
            f"The card was not read within {settings.OCR_TIMEOUT_SECONDS:g} seconds. The reading goes on and will be "
            f"kept as extraction {extraction.pk}, session {session.pk}.",
            headers={"X-Session-ID": session.pk},
        )
    extraction = await in_db(complete_extraction, extraction.pk)
    if answer.error is not None and answer.error_status == Unavailable.status:
        # No model was available to read it, which differs from a card that cannot be read.
        raise ApiError.from_dict(answer.error, status=answer.error_status, headers={"X-Session-ID": session.pk})
    return render(extraction)


def render(extraction: KtpExtraction) -> dict[str, Any]:
    """The contract's eleven keys and ``meta``."""
    return {
        **as_contract(extraction.values),
        "meta": {
            "id": extraction.pk,
            "session_id": extraction.session_id,
            "state": extraction.state,
            "problems": extraction.problems,
            "model": extraction.model,
            "seconds": round(extraction.seconds, 3),
        },
    }
