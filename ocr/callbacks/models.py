"""Calls that the server owes: a caller of the API asked to be told when its reading, or its batch, has ended."""

from __future__ import annotations

import datetime
import uuid
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ocr.submissions import INTERRUPTED_SECONDS, KtpSubmission, KtpSubmittedImage
from sessions_app.encryption.fields import EncryptedTextField

MAX_URL_CHARS = 2000
MAX_ERROR_CHARS = 200
#: seconds before the second attempt; each further pause is twice as long, up to the longest
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 30, 6 * 3600


class KtpCallbackQuerySet(models.QuerySet["KtpCallback"]):
    def due(self) -> Self:
        """To be sent now: what they are about has ended, and their next attempt has come."""
        waiting = self.filter(state=KtpCallback.State.PENDING, next_try_at__lte=timezone.now())
        # As ``KtpSubmission.is_interrupted``: a picture that nobody takes in any more is not waited for.
        since = timezone.now() - datetime.timedelta(seconds=INTERRUPTED_SECONDS)
        unread = KtpSubmittedImage.objects.filter(submission=OuterRef("submission")).filter(
            Q(extraction__state="reading") | Q(extraction=None, error__isnull=True, submission__created_at__gte=since)
        )
        of_one = Q(extraction__state__in=("read", "failed"))
        return waiting.filter(of_one | (Q(extraction=None) & ~Exists(unread)))


class KtpCallback(models.Model):
    """One such call and its attempts. The address may have a secret in it; nothing here is of a card."""

    class State(models.TextChoices):
        PENDING = "pending", _("Pending")
        DELIVERED = "delivered", _("Delivered")
        FAILED = "failed", _("Given up")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    caller = models.CharField(_("caller"), max_length=64, help_text="Who asked for it, as for a session.")
    extraction = models.ForeignKey(
        "ocr.KtpExtraction", on_delete=models.CASCADE, null=True, related_name="callbacks", verbose_name=_("reading")
    )
    submission = models.ForeignKey(
        KtpSubmission, on_delete=models.CASCADE, null=True, related_name="callbacks", verbose_name=_("batch")
    )
    url = EncryptedTextField()
    host = models.CharField(_("host"), max_length=255, help_text="Of the address: operators see it.")
    state = models.CharField(_("state"), max_length=9, choices=State, default=State.PENDING)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    next_try_at = models.DateTimeField(_("next attempt"), default=timezone.now)
    status = models.PositiveSmallIntegerField(_("status"), null=True, help_text="HTTP status of the last answer.")
    error = models.CharField(_("last error"), max_length=MAX_ERROR_CHARS, blank=True)
    created_at = models.DateTimeField(_("created at"), default=timezone.now)
    delivered_at = models.DateTimeField(_("delivered at"), null=True)

    objects = KtpCallbackQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at",)
        verbose_name = _("callback")
        verbose_name_plural = _("callbacks")
        default_permissions = ("view",)
        permissions = (("resend_ktpcallback", "Can send callbacks again"),)
        indexes = (models.Index(fields=("next_try_at",), name="callback_pending", condition=Q(state="pending")),)
        constraints = (
            models.CheckConstraint(
                name="callback_about_one_thing",
                condition=Q(extraction=None, submission__isnull=False) | Q(extraction__isnull=False, submission=None),
            ),
        )

    def __str__(self) -> str:
        return f"callback {self.pk}"

    @property
    def is_last(self) -> bool:
        """Whether no attempt follows the one that was counted last."""
        return self.attempts >= settings.OCR_CALLBACK_MAX_ATTEMPTS


def pause_after(attempts: int) -> datetime.timedelta:
    """How long to wait after this many attempts."""
    return datetime.timedelta(seconds=min(FIRST_PAUSE_SECONDS * 2 ** min(attempts - 1, 20), MAX_PAUSE_SECONDS))
