"""Requests of the API that the server must recognise later.

These are requests with an ``Idempotency-Key`` and requests with several pictures. The rows contain no card data: for
each picture only a keyed digest, which is erased with the reading.
"""

from __future__ import annotations

import datetime
import hashlib
import uuid
from collections.abc import Sequence
from typing import Self

from django.conf import settings
from django.db import IntegrityError, models, transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy as _

from inference.api.idempotency import HEADER
from inference.errors import ApiError, InvalidRequest

#: A picture becomes a reading, and a reading gets its session, within seconds. If that takes longer than this, the web
#: process is considered lost.
INTERRUPTED_SECONDS = 300
#: maximum rows that one sweep deletes
FORGET_BATCH = 500


class KeyReused(InvalidRequest):
    """The key was sent before with other pictures."""

    status = 422
    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__(f"This {HEADER} was sent before with another request. Use a new key.", param=HEADER)


class KeyInUse(ApiError):
    """The first request with this key is still being accepted."""

    status = 409
    code = "idempotency_key_in_use"
    may_retry = True

    def __init__(self) -> None:
        super().__init__(
            f"The first request with this {HEADER} is still being processed. Send it again in a moment.",
            param=HEADER,
            headers={"Retry-After": "1"},
        )


class KtpSubmissionQuerySet(models.QuerySet["KtpSubmission"]):
    def of_caller(self, caller: str) -> Self:
        return self.filter(caller=caller)

    def forgettable(self) -> Self:
        """Older than the server remembers keys and lists."""
        return self.filter(created_at__lt=timezone.now() - datetime.timedelta(days=settings.OCR_IDEMPOTENCY_DAYS))


class KtpSubmission(models.Model):
    """One request and its pictures."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    caller = models.CharField(max_length=64, help_text="Who sent it, as for a session.")
    key = models.CharField(  # noqa: DJ001  (several have none, and no two have the same)
        max_length=64, null=True, unique=True, help_text="HMAC of the caller and the key it gave."
    )
    is_batch = models.BooleanField(help_text="The caller gets a list, even of one picture.")
    count = models.PositiveIntegerField(help_text="Number of pictures.")
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    objects = KtpSubmissionQuerySet.as_manager()

    class Meta:
        verbose_name = _("submission")
        verbose_name_plural = _("submissions")
        default_permissions = ()

    def __str__(self) -> str:
        return f"submission {self.pk}"

    @property
    def is_interrupted(self) -> bool:
        """Whether pictures that are still not accepted never will be."""
        return self.created_at < timezone.now() - datetime.timedelta(seconds=INTERRUPTED_SECONDS)


class KtpSubmittedImage(models.Model):
    """One picture of a submission: being accepted, a reading, or refused. The row is erased with the reading."""

    submission = models.ForeignKey(KtpSubmission, on_delete=models.CASCADE, related_name="images", db_index=False)
    position = models.PositiveIntegerField()
    digest = models.CharField(max_length=64, help_text="HMAC of the bytes as they were sent.")
    extraction = models.OneToOneField(
        "ocr.KtpExtraction", on_delete=models.CASCADE, null=True, related_name="submitted"
    )
    error = models.JSONField(null=True, help_text="Why the picture was refused: the API's error object.")
    error_status = models.PositiveSmallIntegerField(null=True, help_text="HTTP status of the error.")

    class Meta:
        ordering = ("submission", "position")
        default_permissions = ()
        constraints = (models.UniqueConstraint(fields=("submission", "position"), name="submitted_once_a_position"),)

    def __str__(self) -> str:
        return f"picture {self.position} of {self.submission_id}"

    def refuse(self, error: ApiError) -> None:
        """Store the error of a refused picture. Does nothing if the row was erased."""
        row = KtpSubmittedImage.objects.filter(pk=self.pk)
        row.update(error=error.as_dict(), error_status=error.status, extraction=None)


def digest_of(data: bytes, *more: str) -> str:
    """A keyed digest of a picture and the callback address. Without the key nobody can search for a known picture."""
    said = "\n".join([hashlib.sha256(data).hexdigest(), *more])
    return salted_hmac("ocr.submissions", said, algorithm="sha256").hexdigest()


def open_submission(
    *, caller: str, key: str | None, digests: Sequence[str], is_batch: bool = False
) -> tuple[KtpSubmission, bool]:
    """The submission of this key, and whether it is new. Without a key it is always new.

    Raises ``KeyReused`` for a key that was used with other pictures, and ``KeyInUse`` while a single picture is still
    being accepted.
    """
    if key is not None and (known := _known(key, digests, is_batch)) is not None:
        return known, False
    try:
        with transaction.atomic():
            submission = KtpSubmission.objects.create(caller=caller, key=key, is_batch=is_batch, count=len(digests))
            KtpSubmittedImage.objects.bulk_create(
                KtpSubmittedImage(submission=submission, position=position, digest=digest)
                for position, digest in enumerate(digests)
            )
    except IntegrityError:
        # Another request was first with this key.
        known = _known(key, digests, is_batch) if key is not None else None
        if known is None:
            raise
        return known, False
    return submission, True


def _known(key: str, digests: Sequence[str], is_batch: bool) -> KtpSubmission | None:
    known = KtpSubmission.objects.filter(key=key).first()
    if known is None:
        return None
    images = list(known.images.all())
    # A picture whose reading was erased has no digest any more.
    if (known.is_batch, known.count) != (is_batch, len(digests)) or any(
        image.digest != digests[image.position] for image in images
    ):
        raise KeyReused
    if not is_batch and any(image.extraction_id is None for image in images):
        if not known.is_interrupted:
            raise KeyInUse
        known.delete()
        return None
    return known


def forget_old() -> int:
    """Delete keys and lists after ``OCR_IDEMPOTENCY_DAYS``. The readings have a retention of their own."""
    old = list(KtpSubmission.objects.forgettable().values_list("pk", flat=True)[:FORGET_BATCH])
    KtpSubmission.objects.filter(pk__in=old).delete()
    return len(old)
