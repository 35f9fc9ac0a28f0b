"""Retention: how long readings are kept, and the purge that erases them. Most retention times count from the upload."""

from __future__ import annotations

import datetime
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings
from django.db import models, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from ocr import free_space
from ocr.audit.recording import Action, Actor, record_each
from ocr.desk.figures import WEEKS
from ocr.erasing import Erasure, erase_batch
from ocr.history import KtpChange
from ocr.models import KtpExtraction, KtpImage
from ocr.reading_sessions import KtpSession, session_ids_of
from ocr.tombstones import KeptDecision, Tombstone, Why
from sessions_app.models import ChatSession, SessionMedia
from sessions_app.store.erasing import erase_sessions

#: maximum time of a purge within one sweep: the sweeper has other work, and the streams need the database
SWEEP_PURGE_SECONDS = 0.5
#: maximum readings of one transaction, which bounds how long streams wait for the database
BATCH_READINGS = 25
#: the pause after a batch: a multiple of the time that the batch took, and an upper bound in seconds
PAUSE_TIMES, MAX_PAUSE_SECONDS = 3.0, 1.0
#: minimum and maximum age of the sessions that the sweep examines for a missing reading
ORPHAN_AGE = datetime.timedelta(minutes=5), datetime.timedelta(hours=1)
#: after an erasure each sweep tries to truncate the write-ahead log for this time, because a reader may block it
OVERWRITE_AFTER = datetime.timedelta(minutes=2)
#: step of the purge that removes pictures and keeps the readings
IMAGES = "images"

Progress = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Rule:
    """Which readings have reached the end of a retention time, and the reason that their tombstones get."""

    why: Why
    rows: Q


def rules(now: datetime.datetime | None = None) -> list[Rule]:
    """The rules that are in force. A setting of 0 days switches its rule off."""
    now = now or timezone.now()
    review = KtpExtraction.Review
    chosen = (
        (settings.OCR_REJECTED_RETENTION_DAYS, Why.REJECTED, "reviewed_at__lt", Q(review=review.REJECTED)),
        (
            settings.OCR_ABANDONED_RETENTION_DAYS,
            Why.ABANDONED,
            "created_at__lt",
            Q(review=review.NEEDS_REVIEW, submitted_at=None),
        ),
        (settings.OCR_DATA_RETENTION_DAYS, Why.RETENTION, "created_at__lt", Q()),
    )
    return [
        Rule(why, rows & Q(**{before: now - datetime.timedelta(days=days)}))
        for days, why, before, rows in chosen
        if days
    ]


def due(rule: Rule) -> models.QuerySet[KtpExtraction]:
    """The readings that this rule erases now, the oldest first."""
    return KtpExtraction.objects.filter(rule.rows, frozen_at=None).order_by("created_at")


def images_due(now: datetime.datetime | None = None) -> models.QuerySet[KtpExtraction]:
    """The readings whose picture has reached the end of its retention time. A card keeps it while it is being read."""
    if not settings.OCR_IMAGE_RETENTION_DAYS:
        return KtpExtraction.objects.none()
    before = (now or timezone.now()) - datetime.timedelta(days=settings.OCR_IMAGE_RETENTION_DAYS)
    rows = KtpExtraction.objects.filter(created_at__lt=before, image_removed_at=None, frozen_at=None)
    return rows.exclude(state=KtpExtraction.State.READING).order_by("created_at")


def counts_due() -> Counter[str]:
    """How many readings each step of a purge would erase, without erasing any. Several steps may count one reading."""
    counts = Counter({str(rule.why): due(rule).count() for rule in rules()})
    counts[IMAGES] = images_due().count()
    return +counts


def purge(
    *, seconds: float | None = None, actor: Actor | None = None, progress: Progress | None = None
) -> Counter[str]:
    """Erase what is due in small batches, for about ``seconds`` at most. Returns the number of readings of each step.

    Any number of processes may purge at the same time: each skips the rows that another has locked. So a reading that a
    reviewer is changing is left to the next purge.
    """
    actor = actor or Actor.of_server()
    ends = time.monotonic() + seconds if seconds is not None else float("inf")
    done = Counter[str]()

    def run(step: str, batch: Callable[[], int]) -> None:
        while (began := time.monotonic()) < ends and (count := batch()):
            done[step] += count
            if progress is not None:
                progress(step, done[step])
            # Concurrent streams need the database and CPU time too.
            now = time.monotonic()
            time.sleep(max(0.0, min(PAUSE_TIMES * (now - began), MAX_PAUSE_SECONDS, ends - now)))

    for rule in rules():
        erasure = Erasure(rule.why, actor)
        run(str(rule.why), lambda rule=rule, erasure=erasure: _erase_due(rule, erasure))  # type: ignore[misc]
    run(IMAGES, lambda: _remove_images(actor))
    return done


def sweep() -> Counter[str]:
    """What every sweep does: purge for a short time, and remove what recently erased readings have left."""
    done = purge(seconds=SWEEP_PURGE_SECONDS)
    _erase_orphans()
    _forget_decisions()
    if done or Tombstone.objects.filter(at__gt=timezone.now() - OVERWRITE_AFTER).exists():
        free_space.overwrite()
    return done


def _erase_due(rule: Rule, erasure: Erasure) -> int:
    # Only the counts are needed here: a purge of a hundred thousand readings must not collect their ids.
    erasure.readings.clear()
    return erase_batch(due(rule), erasure, readings=BATCH_READINGS, skip_locked=True)


@transaction.atomic
def _remove_images(actor: Actor) -> int:
    rows = images_due().select_for_update(skip_locked=True)[:BATCH_READINGS]
    versions = dict(rows.values_list("pk", "version"))
    if not versions:
        return 0
    KtpImage.objects.filter(pk__in=versions).delete()
    # Sessions contain the same picture, and may be kept longer than pictures.
    SessionMedia.objects.filter(session_id__in=session_ids_of(versions)).delete()
    KtpExtraction.objects.filter(pk__in=versions).update(image_removed_at=timezone.now())
    kind = KtpChange.Kind.IMAGE_REMOVED
    KtpChange.objects.bulk_create(
        [KtpChange(extraction_id=pk, version=version, kind=kind) for pk, version in versions.items()]
    )
    record_each(Action.PURGED, list(versions), actor=actor, facts={"what": "image"})
    return len(versions)


def _erase_orphans() -> None:
    """Erase sessions whose card was erased while a process was opening them, if that process has died since."""
    now = timezone.now()
    youngest, oldest = (now - age for age in ORPHAN_AGE)
    orphans = ChatSession.objects.filter(
        ~Exists(KtpSession.objects.filter(pk=OuterRef("pk"))),
        # Processes of an older version write no ``KtpSession``.
        ~Exists(KtpExtraction.objects.filter(session=OuterRef("pk"))),
        origin="ocr",
        created_at__gt=oldest,
        created_at__lt=youngest,
    )
    if found := list(orphans.values_list("pk", flat=True)[:BATCH_READINGS]):
        erase_sessions(found)


def _forget_decisions() -> None:
    """Remove the figures that the page about accuracy no longer shows."""
    KeptDecision.objects.filter(day__lt=timezone.localdate() - datetime.timedelta(weeks=WEEKS + 1)).delete()
