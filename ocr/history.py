"""The history of a reading: who changed which field, when, from what to what, and why."""

from __future__ import annotations

from typing import Any, NoReturn

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ocr.reading.schema import FIELDS, MAX_VALUE_CHARS
from sessions_app.encryption.fields import EncryptedCharField, EncryptedJSONField

NOTE_MAX_CHARS = 500
USER_NAME_MAX_CHARS = 150

#: length of the longest path of a field
PATH_MAX_CHARS = max(len(field.path) for field in FIELDS)


class RejectReason(models.TextChoices):
    """Why a card was turned down. ``OTHER`` needs a note."""

    BLURRED = "blurred", _("Blurred or too small to read")
    NOT_A_KTP = "not_ktp", _("Not a KTP")
    COVERED = "covered", _("A part is covered or cut off")
    OTHER_CARD = "other_card", _("Another person's card")
    OTHER = "other", _("Another reason")


class KtpChange(models.Model):
    """One line of a reading's history, written in the transaction of the change and never changed.

    Values are stored unmasked (but encrypted), so the rows are erased with their card.
    """

    class Kind(models.TextChoices):
        READ = "read", _("Read by the model")
        FAILED = "failed", _("The reading failed")
        READ_AGAIN = "read_again", _("Sent to the model again")
        CORRECTED = "corrected", _("Corrected")
        CONFIRMED = "confirmed", _("Confirmed as printed")
        SENT = "sent", _("Sent for review")
        OPENED = "opened", _("Opened for review")
        UNCLEAR = "unclear", _("Left to another reviewer")
        APPROVED = "approved", _("Approved")
        APPROVED_OWN = "approved_own", _("Approved by its clerk, without review")
        REJECTED = "rejected", _("Rejected")
        UNDONE = "undone", _("Decision undone")
        REOPENED = "reopened", _("Reopened")
        FROZEN = "frozen", _("Frozen (legal hold)")
        UNFROZEN = "unfrozen", _("Unfrozen")
        IMAGE_REMOVED = "image_gone", _("The picture was removed")

    DECISIONS = (Kind.APPROVED, Kind.APPROVED_OWN, Kind.REJECTED)

    extraction = models.ForeignKey("ocr.KtpExtraction", on_delete=models.CASCADE, related_name="history")
    version = models.PositiveIntegerField(help_text="Version of the reading after this change.")
    at = models.DateTimeField(default=timezone.now)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    actor_name = models.CharField(
        max_length=USER_NAME_MAX_CHARS, blank=True, help_text="Kept when the account is deleted; empty for the server."
    )
    kind = models.CharField(max_length=12, choices=Kind)
    field = models.CharField(max_length=PATH_MAX_CHARS, blank=True, help_text="Path of the field; empty for the card.")
    code = models.CharField(max_length=40, blank=True, help_text="Code of the confirmed flag, or of the failure.")
    old = EncryptedCharField(max_length=MAX_VALUE_CHARS, blank=True)
    new = EncryptedCharField(max_length=MAX_VALUE_CHARS, blank=True)
    reason = models.CharField(max_length=12, choices=RejectReason, blank=True)
    note = EncryptedCharField(max_length=NOTE_MAX_CHARS, blank=True)
    facts = EncryptedJSONField(
        default=dict,
        keep=("corrected", "missed", "flagged", "seconds"),
        blank=True,
        help_text="Of a decision: which fields were corrected, which of them no flag had named, and seconds of review; "
        "never a value. Of a reading sent again: the values that it replaced.",
    )

    class Meta:
        ordering = ("pk",)
        verbose_name = _("change of a reading")
        verbose_name_plural = _("changes of readings")
        # No user may add, change or delete a line; only the transitions of a reading write them.
        default_permissions = ("view",)
        indexes = (
            models.Index(fields=("extraction", "version"), name="ktp_history"),
            models.Index(
                fields=("at",), name="ktp_decided", condition=Q(kind__in=("approved", "approved_own", "rejected"))
            ),
        )

    def __str__(self) -> str:
        # Shown in the admin and in logs, so without card data.
        return f"{self.kind} of KTP {self.extraction_id}, version {self.version}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            self._refuse()
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise TypeError("History is written once. It goes when its card is erased.")
