"""Render a reading for the API, as plain data."""

from __future__ import annotations

from typing import Any

from django.urls import reverse

from ocr.models import KtpExtraction, KtpImage, KtpSubmission
from ocr.reading.region import region_of
from ocr.reading.schema import FIELDS, as_contract


def render(extraction: KtpExtraction) -> dict[str, Any]:
    """The contract's eleven keys and ``meta``. Raises ``DataKeyMissing``."""
    extraction.check_readable()
    return {
        **as_contract(extraction.values),
        "meta": {
            "id": extraction.pk,
            "session_id": extraction.session_id,
            "state": extraction.state,
            "problems": extraction.problems,
            "model": extraction.model,
            "seconds": round(extraction.seconds, 3),
            "review": extraction.review,
            "sandbox": extraction.sandbox,
            "confidence": _confidence(extraction),
            "quality": _quality(extraction),
            **_region(extraction),
            # The model is not asked for these. The keys exist already, so that callers need not change when it is.
            "blood_type": None,
            "issued_at": None,
            "issued_on": None,
        },
    }


def _confidence(extraction: KtpExtraction) -> dict[str, float | None]:
    unread = {path for path, value in extraction.values.items() if not value}.union(extraction.corrected_fields)
    return {field.path: None if field.path in unread else extraction.confidence.get(field.path) for field in FIELDS}


def _quality(extraction: KtpExtraction) -> dict[str, Any] | None:
    image: KtpImage | None = getattr(extraction, "image", None)
    quality: dict[str, Any] | None = image.quality if image is not None else None
    return quality


def _region(extraction: KtpExtraction) -> dict[str, str | None]:
    region = region_of(extraction.nik)
    return {
        "province_code": region.province_code or None,
        "province": region.province or None,
        "city_code": region.city_code or None,
        "city": None,
    }


def render_pending(extraction: KtpExtraction) -> dict[str, Any]:
    """A reading in progress; it contains nothing of the card."""
    return {
        "id": extraction.pk,
        "state": extraction.state,
        "location": location_of(extraction),
        "created_at": extraction.created_at,
    }


def location_of(extraction: KtpExtraction) -> str:
    """The path of the reading. It has no host, because a proxy may use another one."""
    return reverse("api:ktp_reading", args=[extraction.pk])


def location_of_batch(submission: KtpSubmission) -> str:
    """The path of the batch, without a host."""
    return reverse("api:ktp_batch", args=[submission.pk])
