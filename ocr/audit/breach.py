"""Which cards a user, an API key or a client's address saw between two times, and which it could have seen.

It serves the duty to notify holders and the authority within 3×24 hours (UU PDP, article 46). What was seen is taken
from the audit log. What could be seen is computed from today's rights, which may have changed since.
"""

from __future__ import annotations

import datetime
import ipaddress
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

from django.contrib.auth.models import User
from django.db.models import Count, Max, Min, Q, QuerySet

from ocr.access import MAY_REVIEW
from ocr.audit.models import Action, ActorKind, AuditEntry
from ocr.audit.searching import matching
from ocr.models import KtpExtraction

#: actions that show or export values or the picture unmasked
IN_CLEAR = frozenset(
    (Action.VIEWED_IMAGE, Action.REVEALED, Action.VIEWED_TRANSCRIPT, Action.EXPORTED, Action.API_READ, Action.DELIVERED)
)
#: cards of one query
BATCH = 500


@dataclass
class Seen:
    """One card that was or could have been seen."""

    card: uuid.UUID
    first: datetime.datetime | None = None
    last: datetime.datetime | None = None
    #: number of times of each action
    actions: dict[str, int] = field(default_factory=dict)
    #: whether its reading is still stored
    is_stored: bool = True

    @property
    def was_seen(self) -> bool:
        return bool(self.actions)

    @property
    def in_clear(self) -> bool:
        """Whether NIK, the picture or the text was shown or exported unmasked."""
        return any(action in IN_CLEAR for action in self.actions)

    @property
    def action_names(self) -> str:
        return ", ".join(
            f"{Action(action).label} ({count})" if action in Action else f"{action} ({count})"
            for action, count in sorted(self.actions.items())
        )

    def add(self, action: str, count: int, first: datetime.datetime, last: datetime.datetime) -> None:
        self.actions[action] = self.actions.get(action, 0) + count
        self.first = min(self.first or first, first)
        self.last = max(self.last or last, last)


@dataclass(frozen=True, slots=True)
class Suspect:
    """The account, key or address whose access is examined."""

    #: what was typed: a user's name, key:…, or an IP address
    who: str
    user: User | None = None

    @classmethod
    def of(cls, who: str) -> Suspect:
        return cls(who, User.objects.filter(username=who).first())

    @property
    def is_address(self) -> bool:
        try:
            ipaddress.ip_address(self.who)
        except ValueError:
            return False
        return self.user is None

    @property
    def is_key(self) -> bool:
        return self.who.startswith("key:") and self.user is None

    def lines(self, since: datetime.datetime, until: datetime.datetime) -> QuerySet[AuditEntry]:
        """Its lines in the log. A user is found by account id, so also under earlier names, and by name."""
        rows = matching({"since": since, "until": until})
        if self.is_address:
            return rows.filter(address=self.who)
        named = Q(actor_name=self.who)
        if self.user is not None:
            named |= Q(actor_kind=ActorKind.USER, actor_id=str(self.user.pk))
        return rows.filter(named)

    def permitted(self, until: datetime.datetime) -> QuerySet[KtpExtraction]:
        """The stored readings from before ``until`` that its present rights allow. An address has no rights."""
        rows = KtpExtraction.objects.filter(created_at__lt=until)
        if self.is_key:
            return rows.of_caller(self.who)
        return rows.visible_to(self.user) if self.user is not None and self.user.is_active else rows.none()

    @property
    def is_reviewer(self) -> bool:
        """Whether it may reveal the values of all cards."""
        return self.user is not None and self.user.is_active and self.user.has_perm(MAY_REVIEW)


def seen(suspect: Suspect, since: datetime.datetime, until: datetime.datetime) -> list[Seen]:
    """The cards that the log names: those seen unmasked first, then by time."""
    found: dict[uuid.UUID, Seen] = {}
    lines = suspect.lines(since, until)
    totals = lines.exclude(card=None).order_by().values("card", "action")
    for row in totals.annotate(count=Count("sequence"), first=Min("at"), last=Max("at")).iterator():
        pk: uuid.UUID = row["card"]  # type: ignore[assignment]  # those without are excluded
        card = found.setdefault(pk, Seen(pk))
        card.add(row["action"], row["count"], row["first"], row["last"])
    # One line about a list or an export names many cards.
    of_many = lines.filter(card=None, action__in=(Action.LISTED, Action.EXPORTED)).order_by()
    for action, at, facts in of_many.values_list("action", "at", "facts").iterator():
        for pk in map(uuid.UUID, facts.get("cards", ())):
            found.setdefault(pk, Seen(pk)).add(action, 1, at, at)
    for batch in _batches(list(found)):
        stored = set(KtpExtraction.objects.filter(pk__in=batch).values_list("pk", flat=True))
        for pk in batch:
            found[pk].is_stored = pk in stored
    return sorted(found.values(), key=lambda card: (not card.in_clear, card.first or until, card.card))


def permitted_after(suspect: Suspect, until: datetime.datetime, last: uuid.UUID | None, count: int) -> list[uuid.UUID]:
    """The next page of cards after ``last`` that it could have seen, whether or not it did; empty at the end."""
    rows = suspect.permitted(until).order_by("pk")
    if last is not None:
        rows = rows.filter(pk__gt=last)
    return list(rows.values_list("pk", flat=True)[:count])


def _batches(pks: list[uuid.UUID]) -> Iterator[list[uuid.UUID]]:
    return (pks[start : start + BATCH] for start in range(0, len(pks), BATCH))
