"""The audit log's rows. They form a hash chain, so no row can be changed, removed or moved without a trace."""

from __future__ import annotations

from typing import Any, NoReturn

from django.db import models
from django.utils.translation import gettext_lazy as _

#: hexadecimal digits of a SHA-256
HASH_CHARS = 64
ADDRESS_MAX_CHARS = 45
PURPOSE_MAX_CHARS = 200
NAME_MAX_CHARS = 150


class Action(models.TextChoices):
    """What was done. The database stores the values, so they never change; the labels may."""

    # Looking
    LISTED = "listed", _("Saw the list, masked")
    SEARCHED = "searched", _("Searched")
    VIEWED = "viewed", _("Opened the card")
    VIEWED_IMAGE = "viewed_image", _("Saw the picture")
    VIEWED_HISTORY = "viewed_history", _("Saw the history")
    FOLLOWED = "followed", _("Followed the model's text")
    VIEWED_TRANSCRIPT = "viewed_transcript", _("Saw the session's text")
    REVEALED = "revealed", _("Revealed masked values")
    # Taking out
    EXPORTED = "exported", _("Exported")
    API_READ = "api_read", _("Read through the API")
    DELIVERED = "delivered", _("Sent to a callback address")
    # Changing
    UPLOADED = "uploaded", _("Uploaded")
    API_UPLOADED = "api_uploaded", _("Uploaded through the API")
    READ_AGAIN = "read_again", _("Sent to the model again")
    CANCELLED = "cancelled", _("Cancelled the reading")
    CORRECTED = "corrected", _("Corrected")
    CONFIRMED = "confirmed", _("Confirmed as printed")
    SENT = "sent", _("Sent for review")
    UNCLEAR = "unclear", _("Left to another reviewer")
    APPROVED = "approved", _("Approved")
    REJECTED = "rejected", _("Rejected")
    UNDONE = "undone", _("Undid a decision")
    REOPENED = "reopened", _("Reopened")
    # Removing, and the rights of holders
    API_DELETED = "api_deleted", _("Deleted through the API")
    ERASED = "erased", _("Erased")
    PURGED = "purged", _("Purged at the end of its retention")
    FROZEN = "frozen", _("Frozen")
    UNFROZEN = "unfrozen", _("Unfrozen")
    # The log itself
    AUDIT_SEARCHED = "audit_searched", _("Searched the audit log")
    AUDIT_EXPORTED = "audit_exported", _("Exported from the audit log")
    KEYS_ROTATED = "keys_rotated", _("Rotated the keys")


class ActorKind(models.TextChoices):
    USER = "user", _("user")
    KEY = "key", _("API key")
    ADDRESS = "address", _("API without a key")
    COMMAND = "command", _("command line")
    SERVER = "server", _("the server")


class AppendOnly(models.QuerySet["AuditEntry"]):
    """Refuses changes of rows in Django. Triggers in the database refuse them to every other client."""

    def update(self, **kwargs: Any) -> NoReturn:
        refuse()

    def delete(self) -> NoReturn:
        refuse()


def refuse() -> NoReturn:
    raise TypeError("The audit log is written once: its rows are never changed or deleted.")


class AuditEntry(models.Model):
    """One line. Only ``ocr.audit.recording`` writes it.

    ``hash`` is the SHA-256 of the other columns and of the hash of the line before (``ocr.audit.chain``). ``seal`` is
    an HMAC of it, with a key that is not in the database.
    """

    Action = Action
    ActorKind = ActorKind

    sequence = models.BigIntegerField(primary_key=True, help_text="1, 2, 3 … without gaps.")
    at = models.DateTimeField(_("time"))
    # Without choices, so that a new action needs no migration. ``recording`` takes nothing but an ``Action``.
    action = models.CharField(_("action"), max_length=20)
    actor_kind = models.CharField(_("kind of actor"), max_length=8, choices=ActorKind)
    actor_id = models.CharField(
        _("actor's key"), max_length=64, blank=True, help_text="A user's primary key, or the HMAC of an API key."
    )
    actor_name = models.CharField(
        _("who"), max_length=NAME_MAX_CHARS, blank=True, help_text="As it was then; kept when the account is deleted."
    )
    address = models.CharField(_("address"), max_length=ADDRESS_MAX_CHARS, blank=True, help_text="The client's IP.")
    # No foreign key: the line survives the card.
    card = models.UUIDField(_("card"), null=True, blank=True)
    purpose = models.CharField(_("purpose"), max_length=PURPOSE_MAX_CHARS, blank=True)
    facts = models.JSONField(
        _("facts"), default=dict, blank=True, help_text="Names of fields, counts, ids; never a value of a card."
    )
    previous_hash = models.CharField(max_length=HASH_CHARS, blank=True)
    hash = models.CharField(max_length=HASH_CHARS)
    key_id = models.CharField(max_length=32, blank=True, help_text="Which of DATA_KEYS the seal was made with.")
    seal = models.CharField(max_length=HASH_CHARS, blank=True)

    objects = AppendOnly.as_manager()

    class Meta:
        ordering = ("-sequence",)
        verbose_name = _("line of the audit log")
        verbose_name_plural = _("audit log")
        default_permissions = ("view",)
        indexes = (
            models.Index(fields=("at",), name="audit_at"),
            models.Index(fields=("card", "sequence"), name="audit_card"),
            models.Index(fields=("actor_kind", "actor_id", "sequence"), name="audit_actor"),
            models.Index(fields=("actor_name", "sequence"), name="audit_actor_name"),
            models.Index(fields=("action", "sequence"), name="audit_action"),
            models.Index(fields=("address", "sequence"), name="audit_address"),
        )

    def __str__(self) -> str:
        return f"{self.sequence}: {self.action}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            refuse()
        super().save(*args, force_insert=True, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        refuse()

    @property
    def facts_in_words(self) -> str:
        """The facts as one line of text. A list of cards is shown by its length."""
        said = {name: value for name, value in self.facts.items() if name != "cards" and value != []}
        return " ".join(
            f"{name}={','.join(map(str, value)) if isinstance(value, list) else value}" for name, value in said.items()
        )

    def get_action_display(self) -> str:
        return str(Action(self.action).label) if self.action in Action else self.action


class AuditHead(models.Model):
    """The end of the chain, one row. Each writer locks it while it appends, so the chain never forks."""

    #: the primary key of the one row
    ONLY = 1

    sequence = models.BigIntegerField(default=0)
    hash = models.CharField(max_length=HASH_CHARS, blank=True, default="")

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.sequence}:{self.hash}"
