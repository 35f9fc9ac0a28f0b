"""Several pictures in one request: one reading for each, and one list of the outcomes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest

from inference.api.auth import caller_of
from inference.api.body import Upload
from inference.api.error_rendering import as_api_error
from inference.api.idempotency import name_of_key
from inference.errors import ApiError, NotFound, Unavailable
from inference.media.threads import in_thread
from inference.readiness import check_model_available
from ocr.api.owning import ReadingGone
from ocr.api.rendering import location_of, location_of_batch, render
from ocr.api.strictness import check_strictly
from ocr.api.submitting import PURPOSE, accept
from ocr.api.waiting import wait_for_reading
from ocr.audit.recording import Action, Actor
from ocr.audit.viewing import note_polls
from ocr.callbacks.storing import owe_callback
from ocr.extraction import complete_extraction
from ocr.models import KtpExtraction, KtpSubmission, KtpSubmittedImage
from ocr.refusals import Erased
from ocr.submissions import digest_of, open_submission
from sessions_app.db import in_db
from sessions_app.errors import BUSY_RETRY_AFTER

log = logging.getLogger(__name__)

#: how many pictures of one request are decoded at the same time
TOGETHER = 2


class BatchNotFound(NotFound):
    """There is no such batch, another caller sent it, or it was deleted after ``OCR_IDEMPOTENCY_DAYS``."""

    code = "batch_not_found"

    def __init__(self, pk: uuid.UUID) -> None:
        super().__init__(f"There is no batch {pk} of yours.", param="id")


class Interrupted(ApiError):
    """The server stopped before it accepted the picture."""

    status = 500
    type = "server_error"
    code = "interrupted"

    def __init__(self) -> None:
        super().__init__("The server stopped before it stored this picture. Send it again.")


class NotAccepted(ApiError):
    """The server failed while it accepted the picture."""

    status = 500
    type = "server_error"
    code = "internal_error"

    def __init__(self) -> None:
        super().__init__(
            "The server failed to process this picture. Its log has the error under the id of this request."
        )


class BatchesFull(Unavailable):
    """``OCR_BATCHES_AT_ONCE`` batches are being accepted already."""

    code = "batches_full"

    def __init__(self) -> None:
        super().__init__(
            f"The server is already processing {settings.OCR_BATCHES_AT_ONCE} requests with several pictures. Try "
            "again in a moment.",
            headers={"Retry-After": BUSY_RETRY_AFTER},
        )


class _Places:
    """Counts the batches whose pictures are in the memory of this process."""

    taken = 0

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Hold a place while the block runs. Raises ``BatchesFull``."""
        if self.taken >= settings.OCR_BATCHES_AT_ONCE:
            raise BatchesFull
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


_places = _Places()


async def submit_batch(
    images: Sequence[Upload | ApiError], *, caller: str, idempotency_key: str | None, callback_url: str = ""
) -> tuple[KtpSubmission, bool]:
    """Accept or refuse every picture. Returns the submission, and whether it is new.

    Raises ``BatchesFull`` and the errors of ``check_model_available`` and ``open_submission``.
    """
    name = name_of_key(idempotency_key, caller, PURPOSE)
    await check_model_available()
    # A disconnect must not stop this: the readings are kept, and a caller with a key can send the request again.
    return await asyncio.shield(_submit(images, caller, name, callback_url))


async def _submit(
    images: Sequence[Upload | ApiError], caller: str, name: str | None, callback_url: str
) -> tuple[KtpSubmission, bool]:
    # The place is held as long as the pictures are in memory, even after the caller has disconnected.
    with _places.one():
        # On a thread and before the transaction, because hashing many megabytes takes time.
        digests = await in_thread(_digests_of, images, callback_url)
        submission, is_new = await in_db(_open, digests, caller, name, callback_url)
        if is_new:
            await _accept_all(images, submission)
    return submission, is_new


def _digests_of(images: Sequence[Upload | ApiError], callback_url: str) -> list[str]:
    return [digest_of(image.data, callback_url) if isinstance(image, Upload) else image.code or "" for image in images]


@transaction.atomic
def _open(digests: Sequence[str], caller: str, name: str | None, callback_url: str) -> tuple[KtpSubmission, bool]:
    submission, is_new = open_submission(caller=caller, key=name, digests=digests, is_batch=True)
    if is_new and callback_url:
        owe_callback(callback_url, caller=caller, submission=submission)
    return submission, is_new


async def _accept_all(images: Sequence[Upload | ApiError], submission: KtpSubmission) -> None:
    rows = await in_db(list, submission.images.order_by("position"))
    turns = asyncio.Semaphore(TOGETHER)

    async def one(image: Upload | ApiError, row: KtpSubmittedImage) -> None:
        async with turns:
            try:
                if isinstance(image, ApiError):
                    raise image
                await accept(image, caller=submission.caller, submitted=row)
            except Erased:
                pass  # its caller found it in the list and erased it
            # No error of one picture may stop the others.
            except Exception as error:
                await in_db(row.refuse, _refusal(error, row))

    async with asyncio.TaskGroup() as group:
        for image, row in zip(images, rows, strict=True):
            group.create_task(one(image, row))


def _refusal(error: Exception, row: KtpSubmittedImage) -> ApiError:
    if (known := as_api_error(error)) is not None:
        return known
    log.error("%s could not be processed", row, exc_info=error)
    return NotAccepted()


async def wait_for_all(submission: KtpSubmission, seconds: float) -> None:
    """Wait until every reading has ended, at most ``seconds``."""
    try:
        async with asyncio.timeout(seconds):
            for row in await in_db(_rows, submission):
                if row.extraction is not None and row.extraction.state == KtpExtraction.State.READING:
                    try:
                        await wait_for_reading(row.extraction, seconds)
                    except (ApiError, Erased):
                        pass  # the list reports the outcome
    except TimeoutError:
        pass


def list_of(request: HttpRequest, pk: uuid.UUID, *, strict: bool, is_answer: bool = False) -> dict[str, Any]:
    """The batch as the API renders it. Raises ``BatchNotFound``.

    The read is recorded in the audit log, except in the answer to the request that sent the batch.
    """
    submission = KtpSubmission.objects.of_caller(caller_of(request)).filter(pk=pk, is_batch=True).first()
    if submission is None:
        raise BatchNotFound(pk)
    lost = _complete_finished(submission)
    items = _read_items(submission, lost, strict=strict, reader=None if is_answer else Actor.of_request(request))
    return {
        "id": submission.pk,
        "state": "reading" if any(item["status"] == 202 for item in items) else "ended",
        "location": location_of_batch(submission),
        "created_at": submission.created_at,
        "items": items,
    }


def _complete_finished(submission: KtpSubmission) -> dict[uuid.UUID, ApiError]:
    """Complete the readings whose sessions have finished. Returns the errors of those that could not be completed.

    Each reading has its own transaction: a transaction with several would lock them in another order than an erasure
    does, which could deadlock.
    """
    lost = {}
    finished = KtpExtraction.objects.completable().filter(submitted__submission=submission)
    for pk in finished.values_list("pk", flat=True):
        try:
            complete_extraction(pk)
        except Erased:
            pass
        except ApiError as error:
            lost[pk] = error
    return lost


@transaction.atomic
def _read_items(
    submission: KtpSubmission, lost: Mapping[uuid.UUID, ApiError], *, strict: bool, reader: Actor | None
) -> list[dict[str, Any]]:
    """The outcome of each picture. Records in the audit log that ``reader`` has seen the readings."""
    rows = {row.position: row for row in _rows(submission)}
    items = [_item(position, rows.get(position), submission, lost, strict) for position in range(submission.count)]
    if reader is not None:
        given = [item["reading"]["meta"]["id"] for item in items if item["reading"]]
        note_polls(reader, given, Action.API_READ)
    return items


def _rows(submission: KtpSubmission) -> list[KtpSubmittedImage]:
    images = submission.images.select_related("extraction__session", "extraction__image")
    return list(images.defer("extraction__image__data"))


def _item(
    position: int,
    row: KtpSubmittedImage | None,
    submission: KtpSubmission,
    lost: Mapping[uuid.UUID, ApiError],
    strict: bool,
) -> dict[str, Any]:
    item: dict[str, Any] = {"position": position, "status": 200, "id": None, "location": None}
    item |= {"reading": None, "error": None}
    if row is None:
        return item | _failed(ReadingGone())
    if row.error is not None:
        return item | {"status": row.error_status, "error": row.error}
    if row.extraction is None:
        return item | (_failed(Interrupted()) if submission.is_interrupted else {"status": 202})
    extraction = row.extraction
    item |= {"id": extraction.pk, "location": location_of(extraction)}
    if extraction.state == KtpExtraction.State.READING:
        return item | (_failed(lost[extraction.pk]) if extraction.pk in lost else {"status": 202})
    try:
        if strict:
            check_strictly(extraction)
        return item | {"reading": render(extraction)}
    except ApiError as error:
        return item | _failed(error)


def _failed(error: ApiError) -> dict[str, Any]:
    return {"status": error.status, "error": error.as_dict()}
