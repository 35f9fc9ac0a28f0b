"""The API for readings, ``/ktp-ocr/``: a picture of a card in, the eleven keys and ``meta`` out.

The caller waits for the reading, or asks for a 202 and GETs the reading later.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from ninja import Header, Router, Status

from inference.api.auth import caller_of
from inference.api.body import read_form
from inference.api.replies import ErrorReply
from inference.errors import TimedOut
from ocr.api import form
from ocr.api.batch import list_of, submit_batch, wait_for_all
from ocr.api.owning import ReadingFrozen, ReadingGone, current_reading, find_reading
from ocr.api.prefer import Preferences, read_preferences
from ocr.api.rendering import location_of, render, render_pending
from ocr.api.replies import BatchOut, KtpOut, PendingOut
from ocr.api.strictness import check_strictly
from ocr.api.submitting import submit
from ocr.api.waiting import wait_for_reading
from ocr.audit.recording import Action, Actor, record
from ocr.erasing import erase
from ocr.freezing import Frozen
from ocr.models import KtpExtraction
from ocr.refusals import Erased
from ocr.tombstones import Why
from sessions_app.db import in_db

router = Router(tags=["ktp"])

#: for ``Retry-After``: most cards are read within seconds
RETRY_AFTER_SECONDS = 2

DESCRIPTION = """\
Reads an Indonesian identity card (KTP). Send the picture as the multipart field `image`:
JPEG, PNG, WebP, HEIC, AVIF, TIFF, BMP, GIF, or a PDF, of which the first page is read.

Several cards go into the field `images`, once for each picture, or as zip archives in `images` or `archive`. The
answer is then a list in the order of the pictures; a picture that cannot be used has an error in its place. Two
files in `image` are refused, because a card is read from one picture.

The answer always has the same eleven keys. Every value is a string; `alamat` is an object of four. A value that
could not be read is `""`, and `meta.problems` says why. Problems flag values that a person should check; they never
change or reject a value. Every reading is stored and can be reviewed under `meta.id`.

With `Prefer: respond-async` the answer is a 202 at once, and `Location` is the address of the reading. With
`respond-async, wait=SECONDS` the 202 comes only if the reading takes longer than that.
"""

PreferHeader = Annotated[
    str | None,
    Header(
        alias="Prefer",
        description="RFC 7240. `respond-async`: answer 202 while the reading continues; with `wait=10`, only if the "
        "card is not read within 10 seconds. `handling=strict`: a 422 with the code `not_a_card` or `unreadable` "
        "instead of a reading without any value.",
    ),
]
IdempotencyKeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Your own name for this request, up to 255 characters. The same picture with the same key is read "
        "only once. The same key with another picture is a 422. While the first request with the key is still being "
        "accepted, a second one is a 409.",
    ),
]
ERRORS = dict.fromkeys((400, 401, 409, 410, 413, 415, 422, 429, 500, 503, 504), ErrorReply)
OF_ONE = dict.fromkeys((401, 404, 410, 422, 500, 503), ErrorReply)
PENDING_HEADERS = {
    "Location": {"description": "The address of the reading.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds to wait before the next GET.", "schema": {"type": "integer"}},
    "Preference-Applied": {"description": "`respond-async`", "schema": {"type": "string"}},
}


ANSWERS: dict[int, Any] = {200: KtpOut | BatchOut, 202: PendingOut | BatchOut, **ERRORS}
FILE = {"type": "string", "format": "binary"}
FORM_FIELDS = {
    "image": {**FILE, "description": "The picture of one card."},
    "images": {
        "type": "array",
        "items": FILE,
        "description": "Several pictures, or zip archives of pictures, instead of `image`.",
    },
    "archive": {**FILE, "description": "A zip archive of pictures, instead of `image`."},
    "callback_url": {
        "type": "string",
        "format": "uri",
        "description": "The address to which the server POSTs id and state once the reading, or the whole batch, has "
        "ended. Its host must be one of OCR_CALLBACK_HOSTS.",
    },
}


# Both spellings: a POST cannot be redirected to the one with the slash without losing its body.
@router.post("/ktp-ocr", response=ANSWERS, include_in_schema=False)
@router.post(
    "/ktp-ocr/",
    response=ANSWERS,
    summary="Read an identity card",
    description=DESCRIPTION,
    openapi_extra={
        "requestBody": {
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": FORM_FIELDS,
                    }
                }
            },
            "required": True,
        },
        "responses": {202: {"description": "The card is being read.", "headers": PENDING_HEADERS}},
    },
)
async def read_ktp(
    request: HttpRequest,
    response: HttpResponse,
    prefer: PreferHeader = None,
    idempotency_key: IdempotencyKeyHeader = None,
) -> Any:
    preferences, caller = read_preferences(prefer), caller_of(request)
    sent = await read_form(request, form.read)
    if sent.is_batch:
        return await _answer_batch(request, sent, idempotency_key, preferences, response)
    extraction, is_new = await submit(
        sent.image, caller=caller, idempotency_key=idempotency_key, callback_url=sent.callback_url
    )
    _free_pictures(sent)
    response.headers["X-Session-ID"] = extraction.session_id or ""
    if not is_new:
        response.headers["Idempotent-Replayed"] = "true"
        if extraction.state != KtpExtraction.State.READING:
            return await in_db(_read, request, extraction.pk, preferences, response)
    return await _answer(extraction, caller, preferences, response)


def _free_pictures(sent: form.Form) -> None:
    """Free the memory of the pictures. They are stored by now, and the request may wait for minutes."""
    sent.images.clear()


async def _answer(extraction: KtpExtraction, caller: str, preferences: Preferences, response: HttpResponse) -> Any:
    """Wait for the reading. If it is not done in time: a 202, or a 504 for a caller who did not ask for a 202."""
    seconds = settings.OCR_TIMEOUT_SECONDS
    seconds = min(preferences.wait, seconds) if preferences.respond_async else seconds
    try:
        ended = await wait_for_reading(extraction, seconds) if seconds else None
    except Erased:
        raise ReadingGone from None
    if ended is not None:
        return await in_db(_ended_answer, extraction.pk, caller, preferences, response)
    if preferences.respond_async:
        response.headers["Preference-Applied"] = preferences.applied_async
        return Status(202, _pending(extraction, response))
    headers = {"Location": location_of(extraction), "X-Session-ID": extraction.session_id or ""}
    raise TimedOut(
        f"The card was not read within {seconds:g} seconds. The reading continues and will be "
        f"stored as extraction {extraction.pk}.",
        headers=headers,
    )


async def _answer_batch(
    request: HttpRequest, sent: form.Form, key: str | None, preferences: Preferences, response: HttpResponse
) -> Any:
    batch, is_new = await submit_batch(
        sent.images, caller=caller_of(request), idempotency_key=key, callback_url=sent.callback_url
    )
    _free_pictures(sent)
    if not is_new:
        response.headers["Idempotent-Replayed"] = "true"
    seconds = settings.OCR_TIMEOUT_SECONDS
    if seconds := min(preferences.wait, seconds) if preferences.respond_async else seconds:
        await wait_for_all(batch, seconds)
    return await in_db(_read_batch, request, batch.pk, preferences, response, is_new)


@router.get("/ktp-ocr/batches/{uuid:batch_id}/", response={200: BatchOut, **OF_ONE}, include_in_schema=False)
@router.get(
    "/ktp-ocr/batches/{uuid:batch_id}",
    response={200: BatchOut, 202: BatchOut, **OF_ONE},
    url_name="ktp_batch",
    summary="Get the readings of several pictures",
    openapi_extra={"responses": {202: {"description": "Some are being read.", "headers": PENDING_HEADERS}}},
)
async def get_batch(
    request: HttpRequest, response: HttpResponse, batch_id: uuid.UUID, prefer: PreferHeader = None
) -> Any:
    """The current list of a `POST /ktp-ocr/` with several pictures; a 202 while one of them is being read."""
    return await in_db(_read_batch, request, batch_id, read_preferences(prefer), response)


def _read_batch(
    request: HttpRequest, pk: uuid.UUID, preferences: Preferences, response: HttpResponse, is_answer: bool = False
) -> Any:
    body = list_of(request, pk, strict=preferences.strict, is_answer=is_answer)
    applied = ["handling=strict"] if preferences.strict else []
    status = 202 if body["state"] == "reading" else 200
    if status == 202:
        response.headers["Location"] = body["location"]
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        applied += [preferences.applied_async] if preferences.respond_async else []
    if applied:
        response.headers["Preference-Applied"] = ", ".join(applied)
    return Status(status, body)


@router.get("/ktp-ocr/{uuid:reading_id}/", response={200: KtpOut, 202: PendingOut, **OF_ONE}, include_in_schema=False)
@router.get(
    "/ktp-ocr/{uuid:reading_id}",
    response={200: KtpOut, 202: PendingOut, **OF_ONE},
    url_name="ktp_reading",
    summary="Get a reading",
    openapi_extra={"responses": {202: {"description": "The card is being read.", "headers": PENDING_HEADERS}}},
)
async def get_reading(
    request: HttpRequest, response: HttpResponse, reading_id: uuid.UUID, prefer: PreferHeader = None
) -> Any:
    """The answer of `POST /ktp-ocr/`, with people's corrections since then; a 202 while the card is being read.

    Only the API key that sent the card finds it.
    """
    return await in_db(_read, request, reading_id, read_preferences(prefer), response)


def _read(request: HttpRequest, pk: uuid.UUID, preferences: Preferences, response: HttpResponse) -> Any:
    # Outside of the transaction, so that an error for a strict caller does not undo the completion.
    extraction = current_reading(pk, caller_of(request))
    if extraction.state == KtpExtraction.State.READING:
        return Status(202, _pending(extraction, response))
    with transaction.atomic():
        answer = _ended_answer(pk, caller_of(request), preferences, response)
        record(Action.API_READ, actor=Actor.of_request(request), card=extraction)
    return answer


def _ended_answer(pk: uuid.UUID, caller: str, preferences: Preferences, response: HttpResponse) -> dict[str, Any]:
    """The answer for a reading that has ended. Raises the errors of ``check_strictly`` for a strict caller."""
    extraction = find_reading(pk, caller)
    if preferences.strict:
        response.headers["Preference-Applied"] = "handling=strict"
        check_strictly(extraction)
    return render(extraction)


def _pending(extraction: KtpExtraction, response: HttpResponse) -> dict[str, Any]:
    body = render_pending(extraction)
    response.headers["Location"] = body["location"]
    response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return body


@router.delete("/ktp-ocr/{uuid:reading_id}/", response={204: None, 409: ErrorReply, **OF_ONE}, include_in_schema=False)
@router.delete(
    "/ktp-ocr/{uuid:reading_id}",
    response={204: None, 409: ErrorReply, **OF_ONE},
    url_name="ktp_reading_erase",
    summary="Erase a reading",
)
async def erase_reading(request: HttpRequest, reading_id: uuid.UUID) -> Any:
    """Cancel the reading if it is still running, and erase it everywhere: values, picture, history, and its session.

    A second DELETE gets a 410. A reading under legal hold is kept; the answer is a 409.
    """
    await in_db(_erase, request, reading_id)
    return Status(204, None)


def _erase(request: HttpRequest, pk: uuid.UUID) -> None:
    extraction = find_reading(pk, caller_of(request))
    try:
        erase([extraction], why=Why.API, by=Actor.of_request(request))
    except Frozen:
        raise ReadingFrozen from None
