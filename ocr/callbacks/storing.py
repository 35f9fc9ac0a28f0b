"""Store a callback, to be sent when its reading or batch has ended."""

from __future__ import annotations

import httpx

from ocr.models import KtpCallback, KtpExtraction, KtpSubmission


def owe_callback(
    url: str, *, caller: str, extraction: KtpExtraction | None = None, submission: KtpSubmission | None = None
) -> None:
    """Store it with what it is about, in the same transaction. ``check_callback`` has passed the address."""
    host = httpx.URL(url).raw_host.decode("ascii")[:255]
    KtpCallback.objects.create(caller=caller, extraction=extraction, submission=submission, url=url, host=host)
