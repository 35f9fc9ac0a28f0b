"""How long readings are kept, and the purge that ends it. The times are counted from the upload."""

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

#: seconds that the purge may take of one sweep: the sweeper has other work, and the streams need the database
SWEEP_PURGE_SECONDS = 0.5
#: readings of one transaction: the streams beside it wait for the database no longer than for one of these
BATCH_READINGS = 25
#: the pause after a batch, as a multiple of the time that the batch took, and at most
PAUSE_TIMES, MAX_PAUSE_SECONDS = 3.0, 1.0
#: a session of a card whose reading is gone is older than this, and was opened in the last hour
ORPHAN_AGE = datetime.timedelta(minutes=5), datetime.timedelta(hours=1)
#: for so long after an erasure the sweep tries to cut the write-ahead log, which a reader may have held
OVERWRITE_AFTER = datetime.timedelta(minutes=2)
#: step of the purge that removes pictures and keeps the readings
IMAGES = "images"

Progress = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Rule:
    """Readings whose time is over, and for which reason."""

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
    """The readings whose picture's time is over. A card that is being read keeps it until then."""
    if not settings.OCR_IMAGE_RETENTION_DAYS:
        return KtpExtraction.objects.none()
    before = (now or timezone.now()) - datetime.timedelta(days=settings.OCR_IMAGE_RETENTION_DAYS)
    rows = KtpExtraction.objects.filter(created_at__lt=before, image_removed_at=None, frozen_at=None)
    return rows.exclude(state=KtpExtraction.State.READING).order_by("created_at")


def counts_due() -> Counter[str]:
    """How many readings each step of a purge would erase, without erasing any. One reading may be in several."""
    counts = Counter({str(rule.why): due(rule).count() for rule in rules()})
    counts[IMAGES] = images_due().count()
    return +counts


def purge(
    *, seconds: float | None = None, actor: Actor | None = None, progress: Progress | None = None
) -> Counter[str]:
    """Erase what is due in small batches, for at most about ``seconds``. Returns how many readings by step.

    Any number of processes may purge at once: each takes what no other has locked. A reading that a reviewer changes
    at that moment is left to the next purge.
    """
    actor = actor or Actor.of_server()
    ends = time.monotonic() + seconds if seconds is not None else float("inf")
    done = Counter[str]()

    def run(step: str, batch: Callable[[], int]) -> None:
        while (began := time.monotonic()) < ends and (count := batch()):
            done[step] += count
            if progress is not None:
                progress(step, done[step])
            # The streams beside it need the database and the processors too.
            now = time.monotonic()
            time.sleep(max(0.0, min(PAUSE_TIMES * (now - began), MAX_PAUSE_SECONDS, ends - now)))

    for rule in rules():
        erasure = Erasure(rule.why, actor)
        run(str(rule.why), lambda rule=rule, erasure=erasure: _erase_due(rule, erasure))  # type: ignore[misc]
    run(IMAGES, lambda: _remove_images(actor))
    return done


def sweep() -> Counter[str]:
    """What every sweep does: purge for a moment, and remove what is left of readings that were erased lately."""
    done = purge(seconds=SWEEP_PURGE_SECONDS)
    _erase_orphans()
    _forget_decisions()
    if done or Tombstone.objects.filter(at__gt=timezone.now() - OVERWRITE_AFTER).exists():
        free_space.overwrite()
    return done


def _erase_due(rule: Rule, erasure: Erasure) -> int:
    # Only the counts matter here: a purge of a hundred thousand readings must not collect their ids.
    erasure.readings.clear()
    return erase_batch(due(rule), erasure, readings=BATCH_READINGS, skip_locked=True)


@transaction.atomic
def _remove_images(actor: Actor) -> int:
    rows = images_due().select_for_update(skip_locked=True)[:BATCH_READINGS]
    versions = dict(rows.values_list("pk", "version"))
    if not versions:
        return 0
    KtpImage.objects.filter(pk__in=versions).delete()
    # The same picture, where sessions are kept for longer than pictures.
    SessionMedia.objects.filter(session_id__in=session_ids_of(versions)).delete()
    KtpExtraction.objects.filter(pk__in=versions).update(image_removed_at=timezone.now())
    kind = KtpChange.Kind.IMAGE_REMOVED
    KtpChange.objects.bulk_create(
        [KtpChange(extraction_id=pk, version=version, kind=kind) for pk, version in versions.items()]
    )
    record_each(Action.PURGED, list(versions), actor=actor, facts={"what": "image"})
    return len(versions)


def _erase_orphans() -> None:
    """Sessions of a card that was erased while its session was being opened, by a process that is gone."""
    now = timezone.now()
    youngest, oldest = (now - age for age in ORPHAN_AGE)
    orphans = ChatSession.objects.filter(
        ~Exists(KtpSession.objects.filter(pk=OuterRef("pk"))),
        # A process of an older version writes no ``KtpSession``.
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
