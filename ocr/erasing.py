"""Erase readings: each goes with everything that was stored about it, and leaves a tombstone.

This is the only place that does it: the admin, the commands, the API and the purge all call ``erase``.
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

#: readings of one transaction, so that none is long
BATCH_READINGS = 100
#: a number of a case or letter, and never a NIK or a name of several words
REFERENCE = re.compile(rf"(?!.*\d{{10}})[\w./-]{{0,{REFERENCE_MAX_CHARS}}}", re.ASCII)
#: what the page about accuracy counts of a decision's facts; they are legible without the keys of cards
COUNTED = ("corrected", "missed", "flagged", "seconds")
#: reasons for which the server erases without being asked
BY_ITSELF = (Why.RETENTION, Why.REJECTED, Why.ABANDONED)


class NotAReference(ValueError):
    """The reference of a request is kept for ever, so it is a short number or code."""

    def __init__(self) -> None:
        super().__init__(
            f"A reference has at most {REFERENCE_MAX_CHARS} letters, digits and . / _ -, and no long run of digits: "
            "it is kept for ever, and must not say whom it is about."
        )


@dataclass(slots=True)
class Erasure:
    """What was erased. It holds ids and counts, and nothing of any card."""

    why: Why
    by: Actor
    reference: str = ""
    receipt: uuid.UUID = field(default_factory=uuid.uuid4)
    at: datetime.datetime = field(default_factory=timezone.now)
    readings: list[uuid.UUID] = field(default_factory=list)
    #: rows that went, by the model's label
    counts: Counter[str] = field(default_factory=Counter)
    #: left alone, because they were frozen meanwhile
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

    A card that is being read is cancelled first, and its worker can write nothing more. Readings that are gone already
    are ignored. Raises ``Frozen``, and erases nothing, when one of them is under legal hold, or when all that are left
    came under it meanwhile. Where some did, they are ``Erasure.frozen``, and callers say so. ``reference`` names the
    request that asked for it (``NotAReference``). ``on_batch`` is called after each transaction.
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
    """Erase the first of ``rows``, as many as ``readings``, in one transaction, and add them to ``erasure``; how many.

    Frozen ones are left alone, and with ``skip_locked`` those that another transaction is changing.
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
        # A reading that came back from a backup keeps the tombstone of its first erasure, which its receipt names.
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
    """Keep what the page about accuracy counts: of each decided reading its last decision, without the reading."""
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
    """The rows of the admin's own log stay, with who and when. Their texts may name what was on the card."""
    about = Q(content_type=ContentType.objects.get_for_model(model), object_id__in=list(object_ids))
    LogEntry.objects.filter(about).update(object_repr="", change_message="")
