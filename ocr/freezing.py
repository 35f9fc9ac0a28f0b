"""Put readings under legal hold, and end it. Both need a reason, and are recorded in the history and the audit log."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from ocr.audit.recording import Action, Actor, record
from ocr.history import NOTE_MAX_CHARS, KtpChange
from ocr.models import KtpExtraction
from ocr.refusals import Erased, ReasonMissing, Refused

if TYPE_CHECKING:
    from django.contrib.auth.models import User


class Frozen(Refused):
    """These readings are under legal hold. Nothing was erased."""

    def __init__(self, pks: Iterable[uuid.UUID]) -> None:
        self.pks = sorted(pks)
        super().__init__(
            f"{len(self.pks)} of the readings are frozen (legal hold): {', '.join(map(str, self.pks))}. "
            "Unfreeze them first."
        )


def freeze(card: KtpExtraction, why: str, *, by: Actor, user: User | None = None) -> bool:
    """Put the reading under legal hold; False if it already is. Raises ``ReasonMissing`` and ``Erased``."""
    now = {"frozen_at": timezone.now(), "frozen_by": by.name or by.kind, "frozen_why": _reason(why)}
    return _hold(card, Q(frozen_at=None), now, KtpChange.Kind.FROZEN, Action.FROZEN, why, by, user)


def unfreeze(card: KtpExtraction, why: str, *, by: Actor, user: User | None = None) -> bool:
    """End the legal hold; False if there is none. Raises ``ReasonMissing`` and ``Erased``."""
    none = {"frozen_at": None, "frozen_by": "", "frozen_why": ""}
    held = Q(frozen_at__isnull=False)
    return _hold(card, held, none, KtpChange.Kind.UNFROZEN, Action.UNFROZEN, why, by, user)


def _reason(why: str) -> str:
    if not (why := why.strip()[:NOTE_MAX_CHARS]):
        raise ReasonMissing
    return why


@transaction.atomic
def _hold(
    card: KtpExtraction,
    rows: Q,
    columns: dict[str, Any],
    kind: KtpChange.Kind,
    action: Action,
    why: str,
    by: Actor,
    user: User | None,
) -> bool:
    note = _reason(why)
    locked = KtpExtraction.objects.select_for_update().filter(pk=card.pk)
    if (version := locked.values_list("version", flat=True).first()) is None:
        raise Erased
    if not KtpExtraction.objects.filter(rows, pk=card.pk).update(**columns):
        return False
    KtpChange.objects.create(
        extraction_id=card.pk, version=version, kind=kind, actor=user, actor_name=by.name or by.kind, note=note
    )
    # Without the reason: the audit log is kept longer than the card, and must not contain text about the holder.
    record(action, actor=by, card=card.pk)
    return True
