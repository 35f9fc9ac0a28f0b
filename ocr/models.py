"""One card: its image, what the model read, what people made of it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from ocr import problems
from ocr.masking import mask_name, mask_nik
from ocr.problems import Problem
from ocr.querysets import KtpExtractionQuerySet
from ocr.schema import FIELDS, MAX_VALUE_CHARS
from sessions_app.models import ChatSession

if TYPE_CHECKING:
    from django.contrib.auth.models import User

FILE_NAME_MAX_CHARS = 100


def _field(label: str) -> models.CharField[str, str]:
    return models.CharField(label, max_length=MAX_VALUE_CHARS, blank=True, default="")


class KtpExtraction(models.Model):
    """The reading of one card. Its row is a state machine; the methods here move it and nothing else does.

    The editable columns start as what the model read and take a reviewer's corrections; ``fields_read`` keeps what
    the model read and is never written again.
    """

    class State(models.TextChoices):
        READING = "reading", "Reading"
        READ = "read", "Read"
        FAILED = "failed", "Failed"

    class Review(models.TextChoices):
        NEEDS_REVIEW = "needs_review", "Needs review"
        APPROVED = "approved", "Approved"
        REJECTED = "rejected", "Rejected"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    session = models.OneToOneField(
        ChatSession, on_delete=models.SET_NULL, null=True, blank=True, related_name="ktp_extraction"
    )
    state = models.CharField(max_length=8, choices=State, default=State.READING)
    uploaded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    file_name = models.CharField(max_length=FILE_NAME_MAX_CHARS, blank=True, help_text="Without its folder.")
    model = models.CharField(max_length=255, blank=True, help_text="The model that read the card.")
    created_at = models.DateTimeField(default=timezone.now)
    completed_at = models.DateTimeField(null=True, blank=True)

    nik = _field("NIK")
    nama = _field("Nama")
    tempat_lahir = _field("Tempat lahir")
    tgl_lahir = _field("Tanggal lahir")
    jenis_kelamin = _field("Jenis kelamin")
    alamat_name = _field("Alamat")
    alamat_rt_rw = _field("RT/RW")
    alamat_kel_desa = _field("Kel/Desa")
    alamat_kecamatan = _field("Kecamatan")
    agama = _field("Agama")
    status_perkawinan = _field("Status perkawinan")
    pekerjaan = _field("Pekerjaan")
    kewarganegaraan = _field("Kewarganegaraan")
    berlaku_hingga = _field("Berlaku hingga")

    fields_read = models.JSONField(default=dict, blank=True, editable=False, help_text="By the model; never changed.")
    raw_answer = models.TextField(blank=True, editable=False, help_text="The model's answer, before it was parsed.")
    problems = models.JSONField(default=list, blank=True, editable=False)
    flagged = models.BooleanField(default=False, editable=False, help_text="A problem needs a person's eye.")

    review = models.CharField(max_length=12, choices=Review, default=Review.NEEDS_REVIEW)
    reviewed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    reviewed_at = models.DateTimeField(null=True, blank=True)

    objects = KtpExtractionQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at",)
        verbose_name = "KTP extraction"
        permissions = (
            ("view_ktp_image", "Can view the images of cards"),
            ("review_ktp", "Can approve and reject readings"),
        )
        indexes = (
            models.Index(fields=("-created_at",), name="ktp_created_at"),
            models.Index(fields=("uploaded_by", "-created_at"), name="ktp_of_uploader"),
            models.Index(fields=("created_at",), name="ktp_reading", condition=Q(state="reading")),
        )
        constraints = (
            models.CheckConstraint(
                name="ktp_completed_has_time",
                condition=Q(state="reading", completed_at=None)
                | Q(state__in=("read", "failed"), completed_at__isnull=False),
            ),
            models.CheckConstraint(
                name="ktp_reviewed_has_time",
                condition=Q(review="needs_review", reviewed_at=None)
                | Q(review__in=("approved", "rejected"), reviewed_at__isnull=False),
            ),
            models.CheckConstraint(name="ktp_approved_was_read", condition=~Q(review="approved") | Q(state="read")),
        )

    def __str__(self) -> str:
        # Shown in the admin's history and in logs: nothing of the card.
        return f"KTP {self.pk}"

    @property
    def values(self) -> dict[str, str]:
        """The flat reading as it stands, corrections included."""
        return {field.path: getattr(self, field.column) for field in FIELDS}

    @property
    def problem_list(self) -> list[Problem]:
        return [problems.from_dict(stored) for stored in self.problems]

    @property
    def masked_nik(self) -> str:
        return mask_nik(self.nik)

    @property
    def masked_name(self) -> str:
        return mask_name(self.nama)

    @property
    def seconds(self) -> float:
        """From the upload to the end of the reading, or to now while it goes on."""
        return ((self.completed_at or timezone.now()) - self.created_at).total_seconds()

    def mark_read(self, *, values: Mapping[str, str], raw_answer: str, found: Sequence[Problem]) -> bool:
        """READING → READ with what was read; False when another process was first."""
        return self._complete(
            state=self.State.READ,
            fields_read=dict(values),
            raw_answer=raw_answer,
            **_problem_columns(found),
            **{field.column: values.get(field.path, "") for field in FIELDS},
        )

    def mark_failed(self, code: str, *, raw_answer: str = "") -> bool:
        """READING → FAILED for the reason ``code``; False when another process was first."""
        return self._complete(
            state=self.State.FAILED,
            raw_answer=raw_answer,
            **_problem_columns([Problem(None, code, "error")]),
        )

    def correct_problems(self, found: Sequence[Problem]) -> None:
        """Store what is wrong with the values as a reviewer has corrected them."""
        for name, value in _problem_columns(found).items():
            setattr(self, name, value)
        self.save(update_fields=["problems", "flagged"])

    def approve(self, reviewer: User) -> bool:
        """A person vouches for the values; False when it was reviewed already or there is nothing to approve."""
        return self._review(self.Review.APPROVED, reviewer, from_states=(self.State.READ,))

    def reject(self, reviewer: User) -> bool:
        """A person turns the reading down; False when it was reviewed already or is still being read."""
        return self._review(self.Review.REJECTED, reviewer, from_states=(self.State.READ, self.State.FAILED))

    def reopen(self) -> bool:
        """Take a review back; False when there is none."""
        rows = type(self).objects.filter(pk=self.pk).exclude(review=self.Review.NEEDS_REVIEW)
        return self._update(rows, review=self.Review.NEEDS_REVIEW, reviewed_by=None, reviewed_at=None)

    def _complete(self, **columns: Any) -> bool:
        return self._update(type(self).objects.reading().filter(pk=self.pk), completed_at=timezone.now(), **columns)

    def _review(self, review: Review, reviewer: User, *, from_states: Sequence[State]) -> bool:
        rows = type(self).objects.needing_review().filter(pk=self.pk, state__in=from_states)
        return self._update(rows, review=review, reviewed_by=reviewer, reviewed_at=timezone.now())

    def _update(self, rows: KtpExtractionQuerySet, **columns: Any) -> bool:
        """Change the row if it still is among ``rows``: of two processes at once one gets it."""
        changed = bool(rows.update(**columns))
        self.refresh_from_db()
        return changed


class KtpImage(models.Model):
    """The picture of a card, upright and without metadata: exactly the bytes that the model was given.

    It is a row of its own so that no list loads it, and in the database so that every host serves it and one
    transaction erases it.
    """

    extraction = models.OneToOneField(KtpExtraction, on_delete=models.CASCADE, primary_key=True, related_name="image")
    content_type = models.CharField(max_length=10, choices=(("image/jpeg", "JPEG"), ("image/png", "PNG")))
    sha256 = models.CharField(max_length=64)
    width = models.PositiveIntegerField(help_text="Pixels.")
    height = models.PositiveIntegerField(help_text="Pixels.")
    data = models.BinaryField()

    class Meta:
        verbose_name = "KTP image"
        default_permissions = ()

    def __str__(self) -> str:
        return f"image of KTP {self.extraction_id}"


def _problem_columns(found: Sequence[Problem]) -> dict[str, Any]:
    return {"problems": [problem.as_dict() for problem in found], "flagged": problems.is_flagged(found)}
