"""Ownership: a caller of the API finds only the readings that it sent.

The owner is stored as ``sessions_app.callers`` writes it: the HMAC of the API key, or the client's address if no keys
are set. Cards uploaded on the pages belong to a user and are never found here.
"""

from __future__ import annotations

import uuid

from inference.errors import ApiError, NotFound
from ocr.extraction import complete_extraction
from ocr.models import KtpExtraction
from ocr.refusals import Erased
from ocr.tombstones import Tombstone


class ReadingNotFound(NotFound):
    """There is no such reading, or another caller sent it; the answer does not reveal which."""

    code = "reading_not_found"

    def __init__(self, pk: uuid.UUID) -> None:
        super().__init__(f"There is no reading {pk} of yours.", param="id")


class ReadingGone(ApiError):
    """The reading was erased."""

    status = 410
    code = "reading_gone"

    def __init__(self) -> None:
        super().__init__("The reading was erased.", param="id")


class ReadingFrozen(ApiError):
    """The reading is under legal hold."""

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
    """Like ``find_reading``, but completes the reading first if its session has finished.

    The sweep would complete it within seconds anyway.
    """
    reading = find_reading(pk, caller)
    if reading.state != KtpExtraction.State.READING:
        return reading
    try:
        complete_extraction(pk)
    except Erased:
        raise ReadingGone from None
    return find_reading(pk, caller)
