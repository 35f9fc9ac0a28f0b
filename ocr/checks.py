"""System checks for settings that keep cards for ever."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks


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
