"""What the API says of a reading, as plain data."""

from __future__ import annotations

from typing import Any

from django.urls import reverse

from ocr.models import KtpExtraction
from ocr.reading.schema import as_contract


def render(extraction: KtpExtraction) -> dict[str, Any]:
    """The contract's eleven keys and ``meta``."""
    return {
        **as_contract(extraction.values),
        "meta": {
            "id": extraction.pk,
            "session_id": extraction.session_id,
            "state": extraction.state,
            "problems": extraction.problems,
            "model": extraction.model,
            "seconds": round(extraction.seconds, 3),
        },
    }


def render_pending(extraction: KtpExtraction) -> dict[str, Any]:
    """A reading that goes on: nothing of the card."""
    return {
        "id": extraction.pk,
        "state": extraction.state,
        "location": location_of(extraction),
        "created_at": extraction.created_at,
    }


def location_of(extraction: KtpExtraction) -> str:
    """The address of the reading, without the host: a proxy may have changed it."""
    return reverse("api:ktp_reading", args=[extraction.pk])
