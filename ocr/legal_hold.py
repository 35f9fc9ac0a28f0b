"""Legal hold: a frozen reading is neither erased nor purged, and its picture is not replaced, until it is unfrozen."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from ocr.history import NOTE_MAX_CHARS, USER_NAME_MAX_CHARS
from sessions_app.encryption.fields import EncryptedCharField


class Holdable(models.Model):
    """The columns of ``KtpExtraction`` that say whether it is frozen. ``ocr.freezing`` changes them."""

    frozen_at = models.DateTimeField(_("frozen at"), null=True, blank=True, editable=False)
    frozen_by = models.CharField(
        _("frozen by"), max_length=USER_NAME_MAX_CHARS, blank=True, default="", db_default="", editable=False
    )
    frozen_why = EncryptedCharField(
        _("reason of the legal hold"), max_length=NOTE_MAX_CHARS, blank=True, default="", db_default="", editable=False
    )

    class Meta:
        abstract = True
