"""Which sessions have read a card. A card that is read again has several, and all of them go when it is erased."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from django.db import models

from sessions_app.models import SESSION_ID_MAX_LENGTH


class KtpSession(models.Model):
    """That this session reads or has read this card.

    The row is written before the session is opened, so there is no session of a card without one. Therefore it has no
    foreign key; and it stays when the session is forgotten.
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
