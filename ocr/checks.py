"""System checks for settings under which cards are kept for ever, or callbacks can be forged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks

from inference.api.key_strength import weakness

#: shortest secret of callbacks: whoever has seen one callback can try secrets against its signature at leisure
MIN_SECRET_CHARS = 32


@checks.register()
def check_retention(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    kept = (
        ("OCR_DATA_RETENTION_DAYS", "readings", 365, "ocr.W001"),
        ("OCR_IMAGE_RETENTION_DAYS", "pictures of cards", 30, "ocr.W002"),
    )
    found: list[checks.CheckMessage] = [
        checks.Warning(
            f"{name} is 0: {what} are kept for ever.",
            hint=f"UU PDP asks for an end. Set the days after the upload; {days} is the default.",
            id=check_id,
        )
        for name, what, days, check_id in kept
        # Pictures are erased with their readings at the latest.
        if not getattr(settings, name) and (what == "readings" or not settings.OCR_DATA_RETENTION_DAYS)
    ]
    shorter = ("OCR_IMAGE_RETENTION_DAYS", "OCR_REJECTED_RETENTION_DAYS", "OCR_ABANDONED_RETENTION_DAYS")
    found += [
        checks.Warning(
            f"{name} ({getattr(settings, name):g}) is longer than OCR_DATA_RETENTION_DAYS "
            f"({settings.OCR_DATA_RETENTION_DAYS:g}), which comes first.",
            hint="Make it shorter, or 0 to leave it to OCR_DATA_RETENTION_DAYS.",
            id="ocr.W003",
        )
        for name in shorter
        if settings.OCR_DATA_RETENTION_DAYS and getattr(settings, name) > settings.OCR_DATA_RETENTION_DAYS
    ]
    return found


@checks.register()
def check_callback_secrets(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    return [
        checks.Warning(
            f"Secret {number} of OCR_CALLBACK_SECRETS {reason}: whoever guesses it can forge callbacks.",
            hint='Draw one with: python -c "import secrets; print(secrets.token_urlsafe(32))". Put it first, keep the '
            "old one beside it until every receiver knows the new one, then remove the old one.",
            id="ocr.W004",
        )
        for number, secret in enumerate(settings.OCR_CALLBACK_SECRETS, start=1)
        if (reason := weakness(secret, min_chars=MIN_SECRET_CHARS)) is not None
    ]
