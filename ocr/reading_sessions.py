"""The sessions that have read a card. A card that was read again has several; all are erased with it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from django.db import models

from sessions_app.models import SESSION_ID_MAX_LENGTH


class KtpSession(models.Model):
    """Links a card to a session that reads or has read it.

    The row is written before the session is opened, so that every session of a card has one, and is kept when the
    session's row is deleted. For both reasons it has no foreign key to the session.
    """

    session_id = models.CharField(primary_key=True, max_length=SESSION_ID_MAX_LENGTH)
    extraction = models.ForeignKey("ocr.KtpExtraction", on_delete=models.CASCADE, related_name="sessions")

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"session of KTP {self.extraction_id}"


def session_ids_of(extraction_ids: Iterable[uuid.UUID]) -> list[str]:
    """Every session that has read one of these cards."""
    return list(KtpSession.objects.filter(extraction__in=list(extraction_ids)).values_list("pk", flat=True))
