"""Coordinates and labels for SVG charts; the markup is in the template. Every figure is also in a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640, 200
LEFT, RIGHT, TOP, BOTTOM = 48, 8, 12, 28
#: horizontal lines above the axis
STEPS = 4


@dataclass(frozen=True, slots=True)
class Bar:
    """One column. ``label`` is printed under it; ``text`` is its figure."""

    x: float
    y: float
    width: float
    height: float
    label: str
    text: str

    @property
    def middle(self) -> float:
        return round(self.x + self.width / 2, 1)


@dataclass(frozen=True, slots=True)
class Line:
    """One horizontal line, with its figure to the left."""

    y: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A column chart whose axis begins at 0."""

    bars: list[Bar]
    lines: list[Line]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    base: int = HEIGHT - BOTTOM


def columns(figures: Sequence[tuple[str, float | None]], *, unit: str, decimals: int) -> Chart:
    """A column for each (label, figure), but none for None. ``unit`` follows each figure."""
    highest = _nice(max((figure for _, figure in figures if figure is not None), default=0.0))
    room, base = HEIGHT - TOP - BOTTOM, HEIGHT - BOTTOM
    slot = (WIDTH - LEFT - RIGHT) / max(len(figures), 1)
    bars = []
    for number, (label, figure) in enumerate(figures):
        height = round(room * (figure or 0.0) / highest, 1)
        text = "–" if figure is None else f"{figure:.{decimals}f}{unit}"
        x = LEFT + slot * number + slot * 0.15
        bars.append(Bar(round(x, 1), round(base - height, 1), round(slot * 0.7, 1), height, label, text))
    lines = [
        Line(round(base - room * step / STEPS, 1), f"{highest * step / STEPS:g}{unit}") for step in range(1, STEPS + 1)
    ]
    return Chart(bars, lines)


def _nice(highest: float) -> float:
    """The next larger 1, 2, 4 or 8 times a power of ten, so that the lines are at round figures."""
    if highest <= 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(highest))
    return next((step * power for step in (1, 2, 4, 8) if step * power >= highest), 10 * power)
