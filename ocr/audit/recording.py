"""Write lines of the audit log, each in the same transaction as the action that it records.

A line locks the end of the chain until its transaction commits. So record last in a transaction, and keep what follows
short. If a line cannot be written, its transaction fails too: no card is shown without a record.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import models, transaction
from django.utils import timezone

from ocr.audit.actors import Actor
from ocr.audit.chain import hash_of, seal_of
from ocr.audit.models import PURPOSE_MAX_CHARS, Action, AuditEntry, AuditHead
from ocr.history import KtpChange

__all__ = ("Action", "Actor", "record", "record_changes", "record_each")

#: kind of a line in a reading's history → action in the audit log
ACTION_OF_KIND = {
    KtpChange.Kind.READ_AGAIN: Action.READ_AGAIN,
    KtpChange.Kind.CORRECTED: Action.CORRECTED,
    KtpChange.Kind.CONFIRMED: Action.CONFIRMED,
    KtpChange.Kind.SENT: Action.SENT,
    KtpChange.Kind.UNCLEAR: Action.UNCLEAR,
    KtpChange.Kind.APPROVED: Action.APPROVED,
    KtpChange.Kind.APPROVED_OWN: Action.APPROVED,
    KtpChange.Kind.REJECTED: Action.REJECTED,
    KtpChange.Kind.UNDONE: Action.UNDONE,
    KtpChange.Kind.REOPENED: Action.REOPENED,
}

#: a NIK has this many digits, and no legitimate fact does
_NIK = re.compile(r"(?<!\d)\d{16}(?!\d)")


def record(
    action: Action,
    *,
    actor: Actor,
    card: models.Model | uuid.UUID | None = None,
    purpose: str = "",
    facts: Mapping[str, Any] | None = None,
) -> AuditEntry:
    """Append one line. ``card`` is a reading or its id.

    ``facts`` are names of fields, counts and ids, and never a value of a card.
    Raises ValueError for facts that cannot be hashed the same on every database (floating-point numbers), and for
    text that contains a NIK.
    """
    return record_each(action, [card], actor=actor, purpose=purpose, facts=facts)[0]


def record_each(
    action: Action,
    cards: Iterable[models.Model | uuid.UUID | None],
    *,
    actor: Actor,
    purpose: str = "",
    facts: Mapping[str, Any] | None = None,
) -> Sequence[AuditEntry]:
    """Like ``record``, one line for each card. The caller limits their number."""
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
            entry.key_id, entry.seal = seal_of(entry.hash)
            head.sequence, head.hash = entry.sequence, entry.hash
            entries.append(entry)
        AuditEntry.objects.bulk_create(entries)
        head.save(update_fields=("sequence", "hash"))
    return entries


def record_changes(lines: Sequence[KtpChange]) -> None:
    """Append one line about a user's change, from the lines of the reading's history. The server's changes have none.

    The line names fields, flags and the reason. Values and notes stay out, because they must be erased with the card.
    """
    first = lines[0]
    action = ACTION_OF_KIND.get(KtpChange.Kind(first.kind))
    if action is None or first.actor is None:
        return
    facts: dict[str, Any] = {"version": first.version}
    if fields := [line.field for line in lines if line.field]:
        facts["fields"] = fields
    if codes := [line.code for line in lines if line.code]:
        facts["codes"] = codes
    if first.reason:
        facts["reason"] = first.reason
    if first.kind == KtpChange.Kind.APPROVED_OWN:
        facts["own"] = True
    record(action, actor=Actor.of_user(first.actor), card=first.extraction_id, facts=facts)


def _locked_head() -> AuditHead:
    """The end of the chain, locked until the transaction ends. (On SQLite the transaction locks the whole database.)"""
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
