"""Erase readings, with everything that was stored about them. Each erased reading leaves a tombstone.

No other module erases readings: the admin, the commands, the API and the purge all use this one.
"""

from __future__ import annotations

import datetime
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from ocr import free_space
from ocr.audit.recording import Action, Actor, record_each
from ocr.freezing import Frozen
from ocr.history import KtpChange
from ocr.models import KtpExtraction
from ocr.reading_sessions import session_ids_of
from ocr.tombstones import REFERENCE_MAX_CHARS, KeptDecision, Tombstone, Why
from sessions_app.models import ChatSession
from sessions_app.store.erasing import erase_sessions

#: maximum readings of one transaction, so that no transaction is long
BATCH_READINGS = 100
#: matches the number of a case or a letter, but no NIK and no name of several words
REFERENCE = re.compile(rf"(?!.*\d{{10}})[\w./-]{{0,{REFERENCE_MAX_CHARS}}}", re.ASCII)
#: the facts of a decision that the accuracy page counts; they are not encrypted
COUNTED = ("corrected", "missed", "flagged", "seconds")
#: reasons for which the server erases without a request
BY_ITSELF = (Why.RETENTION, Why.REJECTED, Why.ABANDONED)


class NotAReference(ValueError):
    """The reference of a request is kept for ever, so it must be a short number or code."""

    def __init__(self) -> None:
        super().__init__(
            f"A reference has at most {REFERENCE_MAX_CHARS} letters, digits and . / _ -, and no long run of digits: "
            "it is kept for ever, and must not say whom it is about."
        )


@dataclass(slots=True)
class Erasure:
    """What was erased. Contains ids and counts, and no data of a card."""

    why: Why
    by: Actor
    reference: str = ""
    receipt: uuid.UUID = field(default_factory=uuid.uuid4)
    at: datetime.datetime = field(default_factory=timezone.now)
    readings: list[uuid.UUID] = field(default_factory=list)
    #: number of erased rows, by the model's label
    counts: Counter[str] = field(default_factory=Counter)
    #: readings that were not erased, because they were frozen meanwhile
    frozen: list[uuid.UUID] = field(default_factory=list)

    @property
    def who(self) -> str:
        return f"{self.by.kind}:{self.by.name}" if self.by.name else str(self.by.kind)


def erase(
    readings: Iterable[KtpExtraction | uuid.UUID],
    *,
    why: Why,
    by: Actor,
    reference: str = "",
    on_batch: Callable[[Erasure], None] | None = None,
) -> Erasure:
    """Erase these readings everywhere, in one transaction for each ``BATCH_READINGS``.

    The session of a card that is being read is cancelled first, and its worker is fenced. Readings that no longer exist
    are ignored. If a reading is under legal hold at the start, raises ``Frozen`` and erases nothing. Readings that are
    frozen while this runs are not erased: they are in ``Erasure.frozen``, and callers must report them. If there are
    such readings and none was erased, raises ``Frozen`` too. ``reference`` is the number of the request for erasure;
    raises ``NotAReference`` if it is not one. ``on_batch`` is called after each transaction.
    """
    if not REFERENCE.fullmatch(reference):
        raise NotAReference
    pks = list(dict.fromkeys(reading if isinstance(reading, uuid.UUID) else reading.pk for reading in readings))
    erasure = Erasure(why, by, reference)
    batches = [pks[start : start + BATCH_READINGS] for start in range(0, len(pks), BATCH_READINGS)]
    held = [pk for batch in batches for pk in _frozen().filter(pk__in=batch).values_list("pk", flat=True)]
    if held:
        raise Frozen(held)
    for batch in batches:
        rows = KtpExtraction.objects.filter(pk__in=batch).order_by("pk")
        erase_batch(rows, erasure, readings=BATCH_READINGS)
        erasure.frozen += _frozen().filter(pk__in=batch).values_list("pk", flat=True)
        if on_batch is not None:
            on_batch(erasure)
    if erasure.frozen and not erasure.readings:
        raise Frozen(erasure.frozen)
    if erasure.readings:
        transaction.on_commit(free_space.overwrite)
    return erasure


@transaction.atomic
def erase_batch(
    rows: models.QuerySet[KtpExtraction], erasure: Erasure, *, readings: int, skip_locked: bool = False
) -> int:
    """Erase up to ``readings`` of ``rows``, the first ones, in one transaction. Returns how many were erased.

    Adds them to ``erasure``. Skips frozen readings, and with ``skip_locked`` those that another transaction has locked.
    """
    locked = rows.filter(frozen_at=None).select_for_update(skip_locked=skip_locked)[:readings]
    found = list(locked.values_list("pk", "session_id", "caller"))
    if not found:
        return 0
    pks = [pk for pk, _, _ in found]
    session_ids = {*session_ids_of(pks), *(session_id for _, session_id, _ in found if session_id)}
    _keep_decisions(pks)
    counts = Counter(KtpExtraction.objects.filter(pk__in=pks).only("pk").delete()[1])
    counts += erase_sessions(session_ids)
    _clear_log(KtpExtraction, map(str, pks))
    _clear_log(ChatSession, session_ids)
    now = timezone.now()
    Tombstone.objects.bulk_create(
        [
            Tombstone(
                reading=pk,
                at=now,
                why=erasure.why,
                by=erasure.who,
                reference=erasure.reference,
                receipt=erasure.receipt,
                caller=caller,
            )
            for pk, _, caller in found
        ],
        # A reading that was restored from a backup keeps the tombstone of its first erasure, which its receipt names.
        ignore_conflicts=True,
    )
    action = Action.PURGED if erasure.why in BY_ITSELF else Action.ERASED
    if erasure.why == Why.API:
        action = Action.API_DELETED
    facts = {"why": str(erasure.why), "receipt": str(erasure.receipt), "reference": erasure.reference}
    record_each(action, pks, actor=erasure.by, facts=facts)
    erasure.readings += pks
    erasure.counts += counts
    return len(pks)


def _frozen() -> models.QuerySet[KtpExtraction]:
    return KtpExtraction.objects.exclude(frozen_at=None)


def _keep_decisions(pks: Sequence[uuid.UUID]) -> None:
    """Keep what the accuracy page counts: the last decision about each decided reading, without the reading."""
    decided = KtpChange.objects.filter(extraction__in=pks, kind__in=KtpChange.DECISIONS)
    standing = decided.exclude(extraction__review=KtpExtraction.Review.NEEDS_REVIEW).order_by("pk")
    last = {pk: (at, kind, facts) for pk, at, kind, facts in standing.values_list("extraction", "at", "kind", "facts")}
    KeptDecision.objects.bulk_create(
        [
            KeptDecision(
                day=timezone.localdate(at), kind=kind, facts={name: facts[name] for name in COUNTED if name in facts}
            )
            for at, kind, facts in last.values()
        ]
    )


def _clear_log(model: type[models.Model], object_ids: Iterable[str]) -> None:
    """Clear the texts in the admin's log, which may contain data of a card. The rows remain, with user and time."""
    about = Q(content_type=ContentType.objects.get_for_model(model), object_id__in=list(object_ids))
    LogEntry.objects.filter(about).update(object_repr="", change_message="")
