"""The accuracy of readings, measured by the reviewers' corrections. It contains no data of cards."""

from __future__ import annotations

import datetime
import itertools
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils import timezone

from ocr.history import KtpChange
from ocr.reading.schema import FIELDS
from ocr.tombstones import KeptDecision

#: number of weeks on the page, including the current one
WEEKS = 12


@dataclass(slots=True)
class Week:
    """The cards that were approved in one week, Monday to Sunday in local time."""

    monday: datetime.date
    approved: int = 0
    rejected: int = 0
    #: path → how often a person changed the model's value
    corrected: Counter[str] = field(default_factory=Counter)
    #: path → how often a person changed a value without a flag
    missed: Counter[str] = field(default_factory=Counter)
    #: seconds of each review: from opening the card to the decision
    seconds: list[float] = field(default_factory=list)

    def corrected_share(self, path: str) -> float | None:
        """Share of approved cards in which the value was corrected; None if no card was approved."""
        return self.corrected[path] / self.approved if self.approved else None

    @property
    def missed_count(self) -> int:
        return self.missed.total()

    @property
    def missed_share(self) -> float | None:
        """Wrong and unflagged fields, of all fields of the approved cards."""
        return self.missed_count / (self.approved * len(FIELDS)) if self.approved else None

    @property
    def median_seconds(self) -> float | None:
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def slow_seconds(self) -> float | None:
        """The 90th percentile of the review times."""
        return sorted(self.seconds)[int(0.9 * (len(self.seconds) - 1))] if self.seconds else None


def recent_weeks(today: datetime.date | None = None) -> list[Week]:
    """The last ``WEEKS`` weeks, oldest first. Decisions that were undone or reopened do not count."""
    today = today or timezone.localdate()
    this_monday = today - datetime.timedelta(days=today.weekday())
    first = this_monday - datetime.timedelta(weeks=WEEKS - 1)
    begin = timezone.make_aware(datetime.datetime.combine(first, datetime.time()))
    weeks = [Week(first + datetime.timedelta(weeks=number)) for number in range(WEEKS)]
    for day, kind, facts in itertools.chain(_standing_decisions(begin), _of_erased_readings(first)):
        number = (day - first).days // 7
        if 0 <= number < WEEKS:
            _count(weeks[number], kind, facts)
    return weeks


Decision = tuple[datetime.date, str, Mapping[str, Any]]


def _standing_decisions(begin: datetime.datetime) -> Iterable[Decision]:
    """The last decision about each card since then, unless the card is open again."""
    decisions = (
        KtpChange.objects.filter(kind__in=KtpChange.DECISIONS, at__gte=begin)
        .exclude(extraction__review="needs_review")
        .order_by("pk")
        .values_list("extraction_id", "at", "kind", "facts")
    )
    last: dict[Any, Decision] = {}
    for pk, at, kind, facts in decisions.iterator():
        last[pk] = (timezone.localdate(at), kind, facts)
    return last.values()


def _of_erased_readings(first: datetime.date) -> Iterable[Decision]:
    return KeptDecision.objects.filter(day__gte=first).values_list("day", "kind", "facts").iterator()


def _count(week: Week, kind: str, facts: Mapping[str, Any]) -> None:
    if "corrected" not in facts:
        return  # written by a release that did not store it
    if kind == KtpChange.Kind.REJECTED:
        week.rejected += 1
    else:
        week.approved += 1
        week.corrected.update(facts["corrected"])
        week.missed.update(facts["missed"])
    if kind != KtpChange.Kind.APPROVED_OWN and "seconds" in facts:
        week.seconds.append(facts["seconds"])
