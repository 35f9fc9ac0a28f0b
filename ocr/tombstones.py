"""What remains of an erased reading: the record that it existed, and figures. No data of the card or its holder."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

WHY_MAX_CHARS = 12
#: length of the kind of actor and a user's name
BY_MAX_CHARS = 170
REFERENCE_MAX_CHARS = 40


class Why(models.TextChoices):
    """Why a reading was erased. A closed list, so that no reason contains personal data."""

    REQUEST = "request", _("The holder asked for it")
    CONSENT = "consent", _("The holder withdrew the consent")
    PURPOSE = "purpose", _("It is no longer needed")
    MISTAKE = "mistake", _("It should not have been stored")
    DELETED = "deleted", _("Deleted in the list of readings")
    API = "api", _("Deleted through the API")
    RETENTION = "retention", _("Its time was over")
    REJECTED = "rejected", _("Rejected, and its time was over")
    ABANDONED = "abandoned", _("Never sent for review, and its time was over")


#: the reasons that a person may give
GIVEN_BY_PEOPLE = (Why.REQUEST, Why.CONSENT, Why.PURPOSE, Why.MISTAKE)


class Tombstone(models.Model):
    """Records that the reading with this id was erased: when, why and by whom."""

    reading = models.UUIDField(primary_key=True, help_text="The id that the reading had.")
    at = models.DateTimeField(default=timezone.now)
    why = models.CharField(max_length=WHY_MAX_CHARS, choices=Why)
    by = models.CharField(max_length=BY_MAX_CHARS, help_text="The kind of actor and the name: user:ani, server.")
    reference = models.CharField(
        max_length=REFERENCE_MAX_CHARS, blank=True, help_text="Number of the request that asked for it."
    )
    receipt = models.UUIDField(db_index=True, help_text="The same for all readings that were erased in one go.")

    # With a default in the database, because processes of an older version insert rows without it.
    caller = models.CharField(
        max_length=64, blank=True, default="", db_default="", help_text="Who had sent it, as for a session."
    )

    class Meta:
        ordering = ("-at",)
        default_permissions = ()
        indexes = (models.Index(fields=("at",), name="tombstone_at"),)

    def __str__(self) -> str:
        return f"tombstone of KTP {self.reading}"


class KeptDecision(models.Model):
    """The figures of a decision that the accuracy page needs after its reading was erased. Names no reading or user."""

    day = models.DateField(help_text="In local time.")
    kind = models.CharField(max_length=12)
    facts = models.JSONField(default=dict, help_text="Names of fields and seconds, as KtpChange.facts has them.")

    class Meta:
        default_permissions = ()
        indexes = (models.Index(fields=("day",), name="kept_decision_day"),)

    def __str__(self) -> str:
        return f"{self.kind} on {self.day}"
