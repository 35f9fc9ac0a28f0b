"""Accept pictures from the API: each becomes one reading, once for each ``Idempotency-Key``."""

from __future__ import annotations

import asyncio
import copy
import functools
from collections.abc import Callable

from django.conf import settings
from django.db import transaction

from inference.api.body import Upload
from inference.api.idempotency import name_of_key
from inference.media.threads import in_thread
from inference.readiness import check_model_available
from ocr.api.owning import ReadingGone
from ocr.callbacks.storing import owe_callback
from ocr.card_image import CardImage, make_ready
from ocr.extraction import start_extraction, store_in_sandbox
from ocr.models import KtpExtraction
from ocr.sandbox import reading as sandbox
from ocr.sandbox.outcomes import Outcome
from ocr.sandbox.pictures import outcome_of
from ocr.submissions import KtpSubmission, KtpSubmittedImage, digest_of, open_submission
from sessions_app.db import in_db
from sessions_app.errors import BUSY_RETRY_AFTER
from sessions_app.request_id import current_request_id

#: keeps the idempotency keys of this API apart from those of others
PURPOSE = "ocr.submissions"


async def submit(
    image: Upload, *, caller: str, idempotency_key: str | None = None, callback_url: str = ""
) -> tuple[KtpExtraction, bool]:
    """Start the reading of this picture, or find the one that was sent with the same key. Returns whether it is new.

    Raises ``ReadingGone`` if the reading of this key was erased, and the errors of ``start_extraction``,
    ``make_ready``, ``check_model_available`` and ``open_submission``.
    """
    name = name_of_key(idempotency_key, caller, PURPOSE)
    if name is None:
        return await accept(image, caller=caller, callback_url=callback_url), True
    submission, is_new = await in_db(_open, image, caller, name, callback_url)
    if not is_new:
        return await in_db(_reading_of, submission), False
    # A disconnect must not stop this: the caller can send the same key again and find the reading.
    return await asyncio.shield(_accept_or_forget(image, submission, callback_url)), True


async def accept(
    image: Upload, *, caller: str, submitted: KtpSubmittedImage | None = None, callback_url: str = ""
) -> KtpExtraction:
    """Start the reading of one picture, store it in ``submitted``, and queue the callback."""
    and_store = functools.partial(_link, submitted, callback_url)
    if settings.OCR_SANDBOX and (outcome := await in_thread(outcome_of, image.data)) is not None:
        if outcome.error is not None:
            message = "The picture is one of the sandbox, and this is its outcome."
            raise outcome.error(message, headers={"Retry-After": BUSY_RETRY_AFTER})
        return await in_db(_end_at_once, outcome, await make_ready(image.data), image.name, caller, and_store)
    await check_model_available()
    return await start_extraction(
        image=await make_ready(image.data),
        file_name=image.name,
        caller=caller,
        request_id=current_request_id(),
        and_store=and_store,
    )


def _end_at_once(
    outcome: Outcome, image: CardImage, file_name: str, caller: str, and_store: Callable[[KtpExtraction], None]
) -> KtpExtraction:
    """Store the reading and end it. A slow outcome is returned in its state before the end, so its caller waits."""
    with transaction.atomic():
        extraction = store_in_sandbox(image, file_name, caller, and_store)
        sandbox.end(copy.copy(extraction) if outcome.is_slow else extraction, outcome)
    return extraction


def _open(image: Upload, caller: str, name: str, callback_url: str) -> tuple[KtpSubmission, bool]:
    return open_submission(caller=caller, key=name, digests=[digest_of(image.data, callback_url)])


def _reading_of(submission: KtpSubmission) -> KtpExtraction:
    image = submission.images.select_related("extraction__session").first()
    if image is None or image.extraction is None:
        raise ReadingGone
    return image.extraction


async def _accept_or_forget(image: Upload, submission: KtpSubmission, callback_url: str) -> KtpExtraction:
    """Accept the picture. On an error the key becomes free again."""
    try:
        submitted = await in_db(submission.images.get)
        return await accept(image, caller=submission.caller, submitted=submitted, callback_url=callback_url)
    except Exception:
        await in_db(submission.delete)
        raise


def _link(submitted: KtpSubmittedImage | None, callback_url: str, extraction: KtpExtraction) -> None:
    if submitted is not None:
        submitted.extraction = extraction
        submitted.save(update_fields=["extraction"])
    if callback_url:
        owe_callback(callback_url, caller=extraction.caller, extraction=extraction)
