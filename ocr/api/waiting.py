"""Wait for the end of a reading, for callers who want the values in the same answer."""

from __future__ import annotations

import asyncio
import uuid

from inference.errors import ApiError, Unavailable
from inference.generations import wait_for_answer
from ocr.extraction import complete_extraction
from ocr.models import KtpExtraction
from sessions_app.db import in_db
from sessions_app.errors import SessionExpired
from sessions_app.models import ChatSession

#: interval of polling for the session of a reading that another request is still starting
LOOK_SECONDS = 0.1


async def wait_for_reading(extraction: KtpExtraction, seconds: float) -> KtpExtraction | None:
    """The reading once it has ended, successfully or not; None if that takes more than ``seconds``.

    Raises the session's error if no worker had a model, because that is no fault of the card, and ``Erased`` if the
    reading is erased meanwhile.
    """
    if extraction.state != KtpExtraction.State.READING:
        return extraction
    if extraction.sandbox:
        return None  # the sandbox's outcome that times out
    try:
        async with asyncio.timeout(seconds):
            session = extraction.session or await _session_of(extraction.pk)
    except TimeoutError:
        return None
    if session is None:
        return await in_db(complete_extraction, extraction.pk)
    try:
        answer = await wait_for_answer(session, timeout_seconds=seconds)
    except SessionExpired:
        # The session has ended, and another process has already completed the reading and removed the text.
        return await in_db(complete_extraction, extraction.pk)
    if answer is None:
        return None
    ended = await in_db(complete_extraction, extraction.pk)
    if answer.error is not None and answer.error_status == Unavailable.status:
        raise ApiError.from_dict(answer.error, status=answer.error_status, headers={"X-Session-ID": session.pk})
    return ended


async def _session_of(pk: uuid.UUID) -> ChatSession | None:
    """Wait until another request has started the session; None if the reading has ended."""
    while True:
        extraction = await in_db(complete_extraction, pk)
        if extraction.state != KtpExtraction.State.READING:
            return None
        if extraction.session is not None:
            return extraction.session
        await asyncio.sleep(LOOK_SECONDS)
