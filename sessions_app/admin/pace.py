"""How evenly a session generates: the time from token to token along its answer, by the commits of its chunks.

One query brings a session of any length down to at most ``POINTS`` spans.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db import connection
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from sessions_app.admin.formatting import count, duration
from sessions_app.models import ChatSession

POINTS = 120
#: a longer time without a token is a pause, if it is also this many times the session's mean
PAUSE_SECONDS, PAUSE_MEANS = 2.0, 10
MAX_PAUSES = 20

#: size and margins of the chart, in its own units
WIDTH, HEIGHT = 640, 170
LEFT, RIGHT, TOP, BOTTOM = 76, 8, 12, 28
#: shorter times are drawn as this
MIN_SECONDS = 0.0001

GAPS_ON_POSTGRESQL = """
WITH said AS (
    SELECT index, EXTRACT(EPOCH FROM created_at)::float AS at,
        CASE WHEN jsonb_typeof(token_ids) = 'array' THEN jsonb_array_length(token_ids) ELSE 0 END AS tokens
    FROM sessions_app_chunk WHERE session_id = %s
),
gap AS (SELECT index, at, tokens, at - LAG(at) OVER (ORDER BY index) AS seconds FROM said WHERE tokens > 0)
"""
GAPS_ON_SQLITE = """
WITH said AS (
    SELECT "index", (julianday(created_at) - 2440587.5) * 86400.0 AS at, json_array_length(token_ids) AS tokens
    FROM sessions_app_chunk WHERE session_id = %s
),
gap AS (SELECT "index", at, tokens, at - LAG(at) OVER (ORDER BY "index") AS seconds FROM said WHERE tokens > 0)
"""
SPANS = """
SELECT MIN("index"), SUM(tokens), SUM(seconds), MAX(seconds) FROM gap WHERE seconds IS NOT NULL
GROUP BY "index" * {points} / %s ORDER BY 1
"""
PAUSES = """
SELECT at - seconds, seconds FROM gap WHERE seconds >= %s ORDER BY seconds DESC LIMIT {most}
"""


@dataclass(frozen=True, slots=True)
class Span:
    """Chunks that follow each other. Seconds."""

    first_index: int
    #: tokens of these chunks. The session's first chunk with tokens is in no span: there is no time before it
    tokens: int
    seconds: float
    longest: float

    @property
    def mean(self) -> float:
        """Mean seconds from token to token."""
        return self.seconds / self.tokens


@dataclass(frozen=True, slots=True)
class Pause:
    """No token came for ``length``, from ``at`` on."""

    at: datetime.datetime
    length: datetime.timedelta


@dataclass(frozen=True, slots=True)
class Pace:
    """The pace of one session. It has no spans before the second commit of tokens."""

    spans: Sequence[Span] = ()
    #: the longest pauses, ``MAX_PAUSES`` at most
    pauses: Sequence[Pause] = field(default=())

    @property
    def tokens(self) -> int:
        return sum(span.tokens for span in self.spans)

    @property
    def mean(self) -> float:
        return sum(span.seconds for span in self.spans) / self.tokens

    @property
    def words(self) -> str:
        """What the chart shows, as text for people who cannot see it."""
        if not self.spans:
            return ""
        slowest = max(self.spans, key=lambda span: span.longest)
        said = ngettext(
            "%(mean)s from token to token on average, over %(count)s token.",
            "%(mean)s from token to token on average, over %(count)s tokens.",
            self.tokens,
        ) % {"mean": _seconds(self.mean), "count": count(self.tokens)}
        longest = _("The longest wait was %(time)s, at chunk %(index)s or soon after.") % {
            "time": _seconds(slowest.longest),
            "index": count(slowest.first_index),
        }
        return f"{said} {longest}"


def read_pace(session: ChatSession) -> Pace:
    """Compute the pace from the session's chunks, in one query, and a second one if there are pauses."""
    gaps = GAPS_ON_POSTGRESQL if connection.vendor == "postgresql" else GAPS_ON_SQLITE
    with connection.cursor() as cursor:
        cursor.execute(gaps + SPANS.format(points=POINTS), [session.pk, max(session.next_index, 1)])
        # The clocks of two workers may differ: after a takeover time may seem to go back.
        spans = [Span(row[0], row[1], max(row[2], 0.0), max(row[3], 0.0)) for row in cursor.fetchall()]
        pace = Pace(spans)
        if not spans:
            return pace
        least = max(PAUSE_SECONDS, PAUSE_MEANS * pace.mean)
        if max(span.longest for span in spans) < least:
            return pace
        cursor.execute(gaps + PAUSES.format(most=MAX_PAUSES), [session.pk, least])
        pauses = [
            Pause(datetime.datetime.fromtimestamp(at, datetime.UTC), datetime.timedelta(seconds=seconds))
            for at, seconds in cursor.fetchall()
        ]
    return Pace(spans, pauses)


@dataclass(frozen=True, slots=True)
class Column:
    """A span in the chart: from the base up to its longest wait, with its mean as a mark."""

    x: float
    width: float
    y: float
    height: float
    mean_y: float
    words: str


@dataclass(frozen=True, slots=True)
class Line:
    y: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Coordinates for the template. The scale is logarithmic: a pause is a thousand times as long as a token."""

    columns: list[Column]
    lines: list[Line]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    base: int = HEIGHT - BOTTOM


def chart_of(pace: Pace) -> Chart | None:
    """The chart of this pace; None if there is nothing to draw."""
    if not pace.spans:
        return None
    low = math.floor(math.log10(max(min(span.mean for span in pace.spans), MIN_SECONDS)))
    high = max(math.ceil(math.log10(max(max(span.longest for span in pace.spans), MIN_SECONDS))), low + 1)
    base, room = HEIGHT - BOTTOM, HEIGHT - TOP - BOTTOM

    def y_of(seconds: float) -> float:
        power = math.log10(max(seconds, 10.0**low))
        return round(base - room * (power - low) / (high - low), 1)

    width = (WIDTH - LEFT - RIGHT) / len(pace.spans)
    columns = [
        Column(
            x=round(LEFT + width * number, 2),
            width=round(max(width * 0.8, 0.5), 2),
            y=y_of(span.longest),
            height=round(base - y_of(span.longest), 1),
            mean_y=y_of(span.mean),
            words=_("from chunk %(index)s: %(mean)s a token, at most %(longest)s")
            % {"index": count(span.first_index), "mean": _seconds(span.mean), "longest": _seconds(span.longest)},
        )
        for number, span in enumerate(pace.spans)
    ]
    lines = [Line(y_of(10.0**power), _power(power)) for power in range(low, high + 1)]
    return Chart(columns, lines)


def _power(power: int) -> str:
    """Seconds to a power of ten: ``0.1 ms``, ``10 ms``, ``1 s``."""
    return f"{10.0**power:g} s" if power >= 0 else f"{10.0 ** (power + 3):g} ms"


def _seconds(seconds: float) -> str:
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    return duration(datetime.timedelta(seconds=seconds))
