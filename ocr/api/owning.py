"""Whose reading it is: a caller of the API finds the readings that it sent, and no other's.

The owner is the caller as ``sessions_app.callers`` writes it: an API key by its HMAC, and the client's address where no
keys are set. What was uploaded on the pages belongs to a user and is never found here.
"""

from __future__ import annotations

import uuid

from inference.errors import ApiError, NotFound
from ocr.extraction import complete_extraction
from ocr.models import KtpExtraction
from ocr.refusals import Erased
from ocr.tombstones import Tombstone


class ReadingNotFound(NotFound):
    """There is no such reading, or another caller sent it: the answer does not tell which."""

    code = "reading_not_found"

    def __init__(self, pk: uuid.UUID) -> None:
        super().__init__(f"There is no reading {pk} of yours.", param="id")


class ReadingGone(ApiError):
    """It was erased."""

    status = 410
    code = "reading_gone"

    def __init__(self) -> None:
        super().__init__("The reading was erased.", param="id")


class ReadingFrozen(ApiError):
    """It is under legal hold."""

    status = 409
    code = "reading_frozen"

    def __init__(self) -> None:
        super().__init__("The reading is under legal hold and cannot be erased.", param="id")


def find_reading(pk: uuid.UUID, caller: str) -> KtpExtraction:
    """The caller's reading, with its session and without the picture. Raises ``ReadingNotFound``, ``ReadingGone``."""
    readings = KtpExtraction.objects.of_caller(caller).select_related("session", "image").defer("image__data")
    reading = readings.filter(pk=pk).first()
    if reading is None:
        if Tombstone.objects.filter(pk=pk, caller=caller).exists():
            raise ReadingGone
        raise ReadingNotFound(pk)
    return reading


def current_reading(pk: uuid.UUID, caller: str) -> KtpExtraction:
    """As ``find_reading``, completed if its session has finished: the sweep would do it within seconds."""
    reading = find_reading(pk, caller)
    if reading.state != KtpExtraction.State.READING:
        return reading
    try:
        complete_extraction(pk)
    except Erased:
        raise ReadingGone from None
    return find_reading(pk, caller)
