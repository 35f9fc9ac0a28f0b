"""The history as series: points of equal length, with figures derived from sums, for charts and tiles."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from django.db.models import F, Sum
from django.utils import timezone

from sessions_app.history.buckets import DAY, HOUR, MINUTE, minute_of
from sessions_app.history.models import HistoryFigure


class Span(NamedTuple):
    """A period of the past that pages show."""

    key: str
    #: length of the span in minutes
    minutes: int
    #: length of each point in minutes
    step: int


LAST_HOUR = Span("60m", HOUR, MINUTE)
LAST_DAY = Span("24h", DAY, 15)
LAST_MONTH = Span("30d", 30 * DAY, 6 * HOUR)
SPANS = (LAST_HOUR, LAST_DAY, LAST_MONTH)


def span_of(key: str) -> Span:
    """The span with this key; the hour for an unknown key."""
    return next((span for span in SPANS if span.key == key), LAST_HOUR)


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """The sums of some minutes. Of those in which no process wrote, nothing is known."""

    starts_at: datetime.datetime
    seconds: int
    sums: Mapping[str, int]

    @property
    def is_known(self) -> bool:
        return "queue_samples" in self.sums

    def count(self, name: str) -> int:
        return self.sums.get(name, 0)

    @property
    def tokens_per_second(self) -> float:
        return self.count("tokens") / self.seconds

    @property
    def queue(self) -> float | None:
        """The mean length of the queue."""
        samples = self.count("queue_samples")
        return self.count("queue") / samples if samples else None

    def first_token(self, share: float) -> float | None:
        """Seconds to the first token that this share of sessions did not exceed; None without any.

        As Prometheus' ``histogram_quantile``: linear within a bucket, and never more than the last bound.
        """
        observed = sorted(
            (*map(float, name.split(":")[1:]), count)
            for name, count in self.sums.items()
            if name.startswith("first_token:")
        )
        wanted = share * sum(count for _, _, count in observed)
        for lower, upper, count in observed:
            if wanted <= count:
                return lower if math.isinf(upper) else lower + (upper - lower) * wanted / count
            wanted -= count
        return None


def points(span: Span) -> list[Point]:
    """The points of the span up to the last whole minute, oldest first, in one query."""
    end = minute_of(timezone.now())
    start = (end - span.minutes) // span.step * span.step
    rows = (
        HistoryFigure.objects.filter(minutes__in=(MINUTE, HOUR), minute__gte=start, minute__lt=end)
        .order_by()
        .values_list(F("minute") - F("minute") % span.step, "name")
        .annotate(Sum("value"))
    )
    sums: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for minute, name, value in rows:
        sums[minute][name] = int(value)
    return [_point(minute, min(minute + span.step, end), sums[minute]) for minute in range(start, end, span.step)]


def last_minutes(minutes: int) -> Point:
    """The sums of the last ``minutes`` up to now, a day at most, in one query."""
    now = timezone.now()
    start = minute_of(now) - minutes
    found = HistoryFigure.objects.filter(minutes=MINUTE, minute__gte=start).order_by().values_list("name")
    sums = {name: int(value) for name, value in found.annotate(Sum("value"))}
    return _point(start, minute_of(now) + 1, sums)


def _point(start: int, end: int, sums: Mapping[str, int]) -> Point:
    return Point(datetime.datetime.fromtimestamp(start * 60, datetime.UTC), (end - start) * 60, sums)
