"""Wait for the end of a reading, for a caller who wants it in the same answer."""

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

#: pause between two looks at a reading that another request is still sending to the model
LOOK_SECONDS = 0.1


async def wait_for_reading(extraction: KtpExtraction, seconds: float) -> KtpExtraction | None:
    """The reading once it has ended, successfully or not; None if that takes longer.

    Raises the error of a server that had no model for it, which differs from a card that cannot be read; and
    ``Erased`` when the reading is erased meanwhile.
    """
    if extraction.state != KtpExtraction.State.READING:
        return extraction
    if extraction.sandbox:
        return None  # it is the slow one
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
        # It has ended, and another process has completed the reading and removed the text already.
        return await in_db(complete_extraction, extraction.pk)
    if answer is None:
        return None
    ended = await in_db(complete_extraction, extraction.pk)
    if answer.error is not None and answer.error_status == Unavailable.status:
        raise ApiError.from_dict(answer.error, status=answer.error_status, headers={"X-Session-ID": session.pk})
    return ended


async def _session_of(pk: uuid.UUID) -> ChatSession | None:
    """The session of a reading, once another request has sent it to the model; None if it has ended."""
    while True:
        extraction = await in_db(complete_extraction, pk)
        if extraction.state != KtpExtraction.State.READING:
            return None
        if extraction.session is not None:
            return extraction.session
        await asyncio.sleep(LOOK_SECONDS)
