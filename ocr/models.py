"""The models of one card: its image, the values that the model read, and people's changes to them."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, PermissionsMixin
from django.db import models
from django.db.models import Q
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ocr.audit.models import AuditEntry, AuditHead
from ocr.callbacks.models import KtpCallback
from ocr.flagged import problem_columns
from ocr.given_permissions import GivenPermission
from ocr.history import KtpChange, RejectReason
from ocr.legal_hold import Holdable
from ocr.lookup import NIK_DIGITS, name_lookups, nik_lookups, normalised_nik, picture_lookups, value_lookups
from ocr.reading.problems import Problem
from ocr.reading.schema import FIELDS
from ocr.reading_sessions import KtpSession
from ocr.refusals import Refused
from ocr.review_queue import ReviewQueueQuerySet
from ocr.reviewing import Reviewable
from ocr.submissions import KtpSubmission, KtpSubmittedImage
from ocr.tombstones import KeptDecision, Tombstone
from sessions_app.encryption import keyring
from sessions_app.encryption.fields import EncryptedBinaryField, EncryptedCharField, EncryptedTextField
from sessions_app.encryption.sealed import Unreadable, check_readable
from sessions_app.models import ChatSession
from sessions_app.states import FINISHED_STATES

if TYPE_CHECKING:
    from django.contrib.auth.models import User

__all__ = (
    "AuditEntry",
    "AuditHead",
    "GivenPermission",
    "KeptDecision",
    "KtpCallback",
    "KtpChange",
    "KtpExtraction",
    "KtpImage",
    "KtpSession",
    "KtpSubmission",
    "KtpSubmittedImage",
    "RejectReason",
    "Tombstone",
)

FILE_NAME_MAX_CHARS = 100

State, Review = Reviewable.State, Reviewable.Review


class KtpExtractionQuerySet(ReviewQueueQuerySet["KtpExtraction"]):
    def reading(self) -> Self:
        return self.filter(state=State.READING)

    def read(self) -> Self:
        return self.filter(state=State.READ)

    def failed(self) -> Self:
        return self.filter(state=State.FAILED)

    def completable(self) -> Self:
        """Readings still in READING although their session has finished."""
        return self.reading().filter(session__state__in=FINISHED_STATES)

    def abandoned(self, seconds: float) -> Self:
        """Readings still in READING after this many seconds without a session."""
        before = timezone.now() - datetime.timedelta(seconds=seconds)
        started = Coalesce("read_again_at", "created_at")
        return self.reading().alias(started=started).filter(session=None, started__lt=before)

    def with_nik(self, nik: str) -> Self:
        """Readings of this number; blanks and dots in it are ignored. Raises ``DataKeyMissing``."""
        return self.filter(nik_lookup__in=nik_lookups(nik))

    def with_name(self, name: str) -> Self:
        """Readings of this whole name; case, accents and punctuation are ignored. Raises ``DataKeyMissing``."""
        return self.filter(name_lookup__in=name_lookups(name))

    def of_caller(self, caller: str) -> Self:
        """The cards that this caller of the API sent. Users' uploads are only found on the pages."""
        return self.filter(caller=caller, uploaded_by=None)

    def read_before(self, card: KtpExtraction) -> Self:
        """Earlier readings of the same NIK, latest first; none if the card's NIK is incomplete.

        Raises ``DataKeyMissing``.
        """
        if len(normalised_nik(card.nik)) != NIK_DIGITS:
            return self.none()
        earlier = self.with_nik(card.nik).filter(created_at__lt=card.created_at)
        return earlier.exclude(pk=card.pk).order_by("-created_at")

    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> Self:
        """A clerk's own cards; all cards for staff with the right to view extractions."""
        if not user.is_authenticated:
            return self.none()
        if sees_everything(user, "ocr.view_ktpextraction"):
            return self.all()
        return self.filter(uploaded_by=user.pk)

    def images_visible_to(self, user: AbstractBaseUser | AnonymousUser) -> Self:
        """Like ``visible_to``, for the card's picture, which has its own permission."""
        if not user.is_authenticated:
            return self.none()
        if sees_everything(user, "ocr.view_ktpextraction") and sees_everything(user, "ocr.view_ktp_image"):
            return self.all()
        return self.filter(uploaded_by=user.pk)


def sees_everything(user: AbstractBaseUser | AnonymousUser, permission: str) -> bool:
    """Whether the user is active staff with ``permission``."""
    return isinstance(user, PermissionsMixin) and bool(getattr(user, "is_staff", False)) and user.has_perm(permission)


class KtpExtraction(Holdable, Reviewable):
    """The reading of one card. The row is a state machine: the methods here and of ``Reviewable`` change its state.

    The editable columns begin with the model's values and take people's corrections. ``fields_read`` keeps the model's
    values until the card is read again.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    session = models.OneToOneField(
        ChatSession,
        verbose_name=_("session"),
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="ktp_extraction",
    )
    uploaded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("uploaded by"),
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
    )
    # With a default in the database, because processes of an older version insert rows without it.
    caller = models.CharField(
        max_length=64, blank=True, default="", db_default="", editable=False, help_text="Who sent it, as for a session."
    )
    file_name = EncryptedCharField(_("file name"), max_length=FILE_NAME_MAX_CHARS, blank=True)
    model = models.CharField(_("model"), max_length=255, blank=True, help_text=_("The model that read the card."))
    created_at = models.DateTimeField(_("uploaded at"), default=timezone.now)
    completed_at = models.DateTimeField(_("completed at"), null=True, blank=True)

    raw_answer = EncryptedTextField(
        _("answer of the model"), blank=True, editable=False, help_text=_("Before it was parsed.")
    )
    sandbox = models.BooleanField(
        default=False,
        db_default=False,
        editable=False,
        help_text="A picture of the sandbox, with a fixed outcome; no model read it.",
    )
    confidence = models.JSONField(
        default=dict,
        db_default=models.Value({}, models.JSONField()),
        blank=True,
        editable=False,
        help_text="By path: the probability of the least likely token of the value as read.",
    )
    read_again_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="When it was last sent to the model again."
    )

    image_removed_at = models.DateTimeField(
        _("picture removed at"), null=True, blank=True, editable=False, help_text=_("Its time was over.")
    )

    objects = KtpExtractionQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at",)
        verbose_name = _("KTP extraction")
        verbose_name_plural = _("KTP extractions")
        permissions = (
            ("view_ktp_image", "Can view the images of cards"),
            ("review_ktp", "Can approve and reject readings"),
            ("approve_own_ktp", "Can approve own readings that nothing has flagged, without review"),
            ("find_person_ktp", "Can find all readings of a person"),
            ("export_person_ktp", "Can export everything that is held about a person"),
            ("erase_ktp", "Can erase readings"),
            ("freeze_ktp", "Can freeze and unfreeze readings (legal hold)"),
            ("export_ktpextraction", "Can export readings with all values"),
        )
        indexes = (
            models.Index(fields=("-created_at",), name="ktp_created_at"),
            models.Index(fields=("uploaded_by", "-created_at"), name="ktp_of_uploader"),
            models.Index(
                fields=("-flagged", "submitted_at"),
                name="ktp_queue",
                condition=Q(review=Review.NEEDS_REVIEW, submitted_at__isnull=False),
            ),
            models.Index(fields=("created_at",), name="ktp_reading", condition=Q(state=State.READING)),
            models.Index(fields=("nik_lookup",), name="ktp_nik"),
            models.Index(fields=("name_lookup",), name="ktp_name"),
            # For the purge, which runs in every sweep.
            models.Index(fields=("created_at",), name="ktp_with_image", condition=Q(image_removed_at=None)),
            models.Index(fields=("reviewed_at",), name="ktp_rejected", condition=Q(review=Review.REJECTED)),
            models.Index(
                fields=("created_at",),
                name="ktp_never_sent",
                condition=Q(review=Review.NEEDS_REVIEW, submitted_at=None),
            ),
        )
        constraints = (
            models.CheckConstraint(
                name="ktp_completed_has_time",
                condition=Q(state=State.READING, completed_at=None)
                | Q(state__in=(State.READ, State.FAILED), completed_at__isnull=False),
            ),
            models.CheckConstraint(
                name="ktp_reviewed_has_time",
                condition=Q(review=Review.NEEDS_REVIEW, reviewed_at=None)
                | Q(review__in=(Review.APPROVED, Review.REJECTED), reviewed_at__isnull=False),
            ),
            models.CheckConstraint(
                name="ktp_approved_was_read", condition=~Q(review=Review.APPROVED) | Q(state=State.READ)
            ),
            models.CheckConstraint(name="ktp_sent_was_read", condition=Q(submitted_at=None) | Q(state=State.READ)),
        )

    def __str__(self) -> str:
        # Shown in the admin's history and in logs, so without card data.
        return f"KTP {self.pk}"

    def check_readable(self) -> None:
        """Raise ``DataKeyMissing`` if the key of a value is lost: the reading may be neither shown nor changed."""
        for value in vars(self).values():
            check_readable(value)

    @property
    def seconds(self) -> float:
        """Seconds of the reading: from the upload, or the last "read again", to its end or to now."""
        started = self.read_again_at or self.created_at
        return ((self.completed_at or timezone.now()) - started).total_seconds()

    @property
    def image_days(self) -> int:
        """How many days the picture was kept, where it was removed."""
        return (self.image_removed_at - self.created_at).days if self.image_removed_at else 0

    def mark_read(
        self,
        *,
        values: Mapping[str, str],
        raw_answer: str,
        found: Sequence[Problem],
        confidence: Mapping[str, float] | None = None,
    ) -> bool:
        """READING → READ with these values; False if another process was first.

        A card without an uploader came through the API. No clerk will send it for review, so it joins the queue now.
        Cards of the sandbox never join it.
        """
        is_submitted = self.uploaded_by_id is None and any(values.values()) and not self.sandbox
        columns = problem_columns(found)
        return self._complete(
            KtpChange.Kind.READ,
            state=self.State.READ,
            fields_read=dict(values),
            problems_read=columns["problems"],
            raw_answer=raw_answer,
            confidence={path: round(share, 3) for path, share in (confidence or {}).items()},
            submitted_at=timezone.now() if is_submitted else None,
            **columns,
            **{field.column: values.get(field.path, "") for field in FIELDS},
            **value_lookups({"nik": values.get("nik", ""), "nama": values.get("nama", "")}),
        )

    def mark_failed(self, code: str, *, raw_answer: str = "") -> bool:
        """READING → FAILED for the reason ``code``; False when another process was first."""
        columns = problem_columns([Problem(None, code, "error")])
        return self._complete(
            KtpChange.Kind.FAILED, code=code, state=self.State.FAILED, raw_answer=raw_answer, **columns
        )

    def read_again(self, user: User, version: int, *, note: str = "") -> None:
        """Return to READING, because the picture was turned or the reading failed. The caller starts the session.

        Refused once the card was sent for review. The history keeps the model's previous values.
        """
        self._check_version(version)
        line = self._line(KtpChange.Kind.READ_AGAIN, user, note=note, facts={"replaced": self.fields_read})
        rows = Q(
            state__in=(self.State.READ, self.State.FAILED),
            review=self.Review.NEEDS_REVIEW,
            submitted_at=None,
            frozen_at=None,
        )
        self._move(
            version,
            rows,
            [line],
            state=self.State.READING,
            completed_at=None,
            read_again_at=timezone.now(),
            session=None,
            fields_read={},
            problems_read=[],
            raw_answer="",
            confidence={},
            confirmed=[],
            nik_lookup="",
            name_lookup="",
            **problem_columns([]),
            **{field.column: "" for field in FIELDS},
        )

    def _complete(self, kind: KtpChange.Kind, *, code: str = "", **columns: Any) -> bool:
        try:
            self._move(
                self.version,
                Q(state=self.State.READING),
                [self._line(kind, None, code=code)],
                completed_at=timezone.now(),
                **columns,
            )
        except Refused:
            return False
        return True


class KtpImage(models.Model):
    """The picture of a card, upright and without metadata: exactly the bytes that the model gets.

    It has its own table, so that lists do not load it. It is in the database, so that every host can serve it and one
    transaction can erase it.
    """

    extraction = models.OneToOneField(KtpExtraction, on_delete=models.CASCADE, primary_key=True, related_name="image")
    content_type = models.CharField(max_length=10, choices=(("image/jpeg", "JPEG"), ("image/png", "PNG")))
    sha256 = models.CharField(max_length=64, db_index=True, help_text="Keyed: see ocr.lookup.")
    width = models.PositiveIntegerField(help_text="Pixels.")
    height = models.PositiveIntegerField(help_text="Pixels.")
    quality = models.JSONField(null=True, blank=True, help_text="Measured by ocr.quality; null if it was not measured.")
    data = EncryptedBinaryField()

    class Meta:
        verbose_name = _("KTP image")
        default_permissions = ()

    def __str__(self) -> str:
        return f"image of KTP {self.extraction_id}"

    def lookups(self) -> list[str]:
        """The digests that other rows of this picture may have.

        There are several while ``DATA_KEYS`` has several keys. Only then is the picture decrypted, to compute them.
        """
        if not keyring.has_keys() or len(keyring.ring().ids) == 1:
            return [self.sha256]
        data = type(self)._default_manager.filter(pk=self.pk).values_list("data", flat=True).first()
        if data is None or isinstance(data, Unreadable):
            return [self.sha256]  # the picture was removed meanwhile, or its key is lost
        return picture_lookups(bytes(data))
