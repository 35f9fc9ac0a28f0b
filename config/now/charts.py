"""The history as line charts: coordinates for a template that draws them as SVG, the same for all viewers."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from django.utils.translation import gettext_lazy as _

from config.now.sharing import SharedCache
from config.now.snapshot import HISTORY_SECONDS
from sessions_app.history import series
from sessions_app.history.series import LAST_HOUR, SPANS, Point, Span

WIDTH, HEIGHT = 420, 150
LEFT, RIGHT, TOP, BOTTOM = 40, 8, 8, 22
ROWS = 2
LABELS = 4

Value = float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    label: Any
    #: the ``d`` attribute of an SVG ``path``; interrupted where no value is known
    path: str
    last: Value
    highest: Value


@dataclasses.dataclass(frozen=True, slots=True)
class Tick:
    at: float
    label: str


@dataclasses.dataclass(frozen=True, slots=True)
class Moment:
    at: float
    time: datetime.datetime


@dataclasses.dataclass(frozen=True, slots=True)
class Chart:
    key: str
    title: Any
    unit: str
    lines: Sequence[Line]
    ticks: Sequence[Tick]
    moments: Sequence[Moment]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    base: int = HEIGHT - BOTTOM


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """What a line shows, and how its value is taken from a point."""

    label: Any
    of: Callable[[Point], Value]


def counted(name: str) -> Callable[[Point], Value]:
    return lambda point: point.count(name)


#: key, title, unit and lines of each chart
CHARTS: tuple[tuple[str, Any, str, tuple[Figure, ...]], ...] = (
    ("tokens", _("Tokens per second"), "", (Figure(_("tokens/s"), lambda point: point.tokens_per_second),)),
    ("queue", _("Waiting sessions"), "", (Figure(_("waiting"), lambda point: point.queue),)),
    (
        "first-token",
        _("Time to first token"),
        "s",
        (
            Figure(_("half within"), lambda point: point.first_token(0.5)),
            Figure(_("95% within"), lambda point: point.first_token(0.95)),
        ),
    ),
    (
        "errors",
        _("Errors"),
        "",
        (Figure(_("failed sessions"), counted("failed")), Figure(_("answers 5xx"), counted("errors"))),
    ),
    (
        "recoveries",
        _("Takeovers and resumes"),
        "",
        (Figure(_("takeovers"), counted("takeovers")), Figure(_("resumes"), counted("resumes"))),
    ),
)


def charts_of(points: Sequence[Point]) -> list[Chart]:
    return [_chart(key, title, unit, figures, points) for key, title, unit, figures in CHARTS]


def _chart(key: str, title: Any, unit: str, figures: Sequence[Figure], points: Sequence[Point]) -> Chart:
    values = [[figure.of(point) if point.is_known else None for point in points] for figure in figures]
    top = nice(max((value for line in values for value in line if value is not None), default=0.0))
    room, base = HEIGHT - TOP - BOTTOM, HEIGHT - BOTTOM
    xs = [LEFT + (WIDTH - LEFT - RIGHT) * index / max(len(points) - 1, 1) for index in range(len(points))]

    def path(line: Sequence[Value]) -> str:
        steps, pen = [], "M"
        for x, value in zip(xs, line, strict=True):
            if value is None:
                pen = "M"
                continue
            # A single point is a line of length zero, which is visible by its round caps.
            steps.append(f"{pen}{x:.1f} {base - room * value / top:.1f}" + ("h0" if pen == "M" else ""))
            pen = "L"
        return "".join(steps)

    lines = [
        Line(
            figure.label,
            path(line),
            line[-1] if line else None,
            max((value for value in line if value is not None), default=None),
        )
        for figure, line in zip(figures, values, strict=True)
    ]
    ticks = [Tick(round(base - room * step / ROWS, 1), f"{top * step / ROWS:g}{unit}") for step in range(1, ROWS + 1)]
    every = max((len(points) - 1) // LABELS, 1)
    moments = [Moment(round(xs[index], 1), points[index].starts_at) for index in range(every // 2, len(points), every)]
    return Chart(key, title, unit, lines, ticks, moments)


def nice(highest: float) -> float:
    """The next 1, 2 or 5 times a power of ten; 1 if nothing was counted."""
    if highest <= 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(highest))
    return next((step * power for step in (1, 2, 5) if step * power >= highest), 10 * power)


@dataclasses.dataclass(frozen=True, slots=True)
class History:
    span: Span
    points: Sequence[Point]
    charts: Sequence[Chart]


def _read(span: Span) -> History:
    points = series.points(span)
    return History(span, points, charts_of(points))


#: key of the span → its shared history
histories = {span.key: SharedCache(functools.partial(_read, span), seconds=HISTORY_SECONDS) for span in SPANS}


def history_of(key: str) -> SharedCache[History]:
    """The history of a span; the last hour for an unknown key."""
    return histories.get(key, histories[LAST_HOUR.key])
