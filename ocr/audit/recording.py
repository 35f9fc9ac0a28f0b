"""Write lines of the audit log, in the transaction of what they are about.

A line waits for the lock of the chain's end and holds it until that transaction commits. So record last in a
transaction, and keep what follows short. What cannot be recorded fails with it: no page shows a card unrecorded.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from ocr.audit.actors import Actor
from ocr.audit.chain import hash_of
from ocr.audit.models import PURPOSE_MAX_CHARS, Action, AuditEntry, AuditHead

if TYPE_CHECKING:
    from ocr.models import KtpExtraction

__all__ = ("Action", "Actor", "record", "record_each")

#: a NIK has this many digits, and nothing else here does
_NIK = re.compile(r"(?<!\d)\d{16}(?!\d)")


def record(
    action: Action,
    *,
    actor: Actor,
    card: KtpExtraction | uuid.UUID | None = None,
    purpose: str = "",
    facts: Mapping[str, Any] | None = None,
) -> AuditEntry:
    """Append one line. ``facts`` are names of fields, counts and ids, and never a value of a card.

    Raises ValueError for facts that cannot be hashed the same on every database (floating-point numbers), and for
    text that contains a NIK.
    """
    return record_each(action, [card], actor=actor, purpose=purpose, facts=facts)[0]


def record_each(
    action: Action,
    cards: Iterable[KtpExtraction | uuid.UUID | None],
    *,
    actor: Actor,
    purpose: str = "",
    facts: Mapping[str, Any] | None = None,
) -> Sequence[AuditEntry]:
    """One line for each card, as ``record``, in one go. The caller bounds how many."""
    purpose = purpose.replace("\0", "")[:PURPOSE_MAX_CHARS]
    said = dict(facts or {})
    _check(purpose)
    _check(said)
    with transaction.atomic():
        head = _locked_head()
        now = timezone.now()
        entries = []
        for card in cards:
            entry = AuditEntry(
                sequence=head.sequence + 1,
                at=now,
                action=Action(action).value,
                actor_kind=actor.kind.value,
                actor_id=actor.id,
                actor_name=actor.name,
                address=actor.address,
                card=card if card is None or isinstance(card, uuid.UUID) else card.pk,
                purpose=purpose,
                facts=said,
                previous_hash=head.hash,
            )
            entry.hash = hash_of(entry)
            head.sequence, head.hash = entry.sequence, entry.hash
            entries.append(entry)
        AuditEntry.objects.bulk_create(entries)
        head.save(update_fields=("sequence", "hash"))
    return entries


def _locked_head() -> AuditHead:
    """The end of the chain, locked until the transaction ends. SQLite's transactions lock as a whole."""
    rows = AuditHead.objects.select_for_update().filter(pk=AuditHead.ONLY)
    head = rows.first()
    if head is None:
        AuditHead.objects.get_or_create(pk=AuditHead.ONLY)
        head = rows.get()
    return head


def _check(said: object) -> None:
    if isinstance(said, str):
        if _NIK.search(said):
            raise ValueError("The audit log takes no personal data, and this looks like a NIK.")
    elif isinstance(said, Mapping):
        for key, value in said.items():
            if not isinstance(key, str):
                raise ValueError(f"A fact's name is text, not {type(key).__name__}.")
            _check(value)
    elif isinstance(said, list | tuple):
        for value in said:
            _check(value)
    elif said is not None and not isinstance(said, bool | int):
        raise ValueError(f"A fact is text, a whole number, true, false or a list of them, not {type(said).__name__}.")
