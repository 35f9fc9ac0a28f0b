"""Find all readings of one person."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from ocr.lookup import normalised_nik
from ocr.models import KtpExtraction, KtpExtractionQuerySet

NIK_DIGITS = 16


class NotANik(ValueError):
    """The text does not have the sixteen digits of a NIK. The message does not contain the text."""

    def __init__(self, digits: int) -> None:
        super().__init__(f"A NIK has {NIK_DIGITS} digits; this text has {digits}.")
        self.digits = digits


def find_by_nik(nik: str) -> KtpExtractionQuerySet:
    """The readings whose current NIK is this one. Blanks and dots are ignored.

    Raises ``NotANik``, and ``DataKeyMissing`` without the data keys.
    """
    if len(digits := normalised_nik(nik)) != NIK_DIGITS:
        raise NotANik(len(digits))
    return _newest_first(KtpExtraction.objects.with_nik(digits))


def find_by_name(name: str) -> KtpExtractionQuerySet:
    """The readings of this whole name. A common name finds several persons. Raises ``DataKeyMissing``."""
    return _newest_first(KtpExtraction.objects.with_name(name))


def find_by_ids(pks: Iterable[uuid.UUID]) -> KtpExtractionQuerySet:
    return _newest_first(KtpExtraction.objects.filter(pk__in=list(pks)))


def _newest_first(rows: KtpExtractionQuerySet) -> KtpExtractionQuerySet:
    return rows.select_related("uploaded_by", "image").defer("raw_answer", "image__data").order_by("-created_at")
