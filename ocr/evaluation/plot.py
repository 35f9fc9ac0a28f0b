"""Plot the figures by condition. Needs matplotlib."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ocr.evaluation.metrics import Figures, Rate, figures
from ocr.evaluation.report import RATES, Evaluation

#: formats that matplotlib writes by itself
SUFFIXES = (".png", ".svg", ".pdf")

#: the shares that are drawn, each with its marker and colour
_SERIES = {"field_exact": ("o", "#1b7f5c"), "card_exact": ("s", "#1f4e9c"), "nik_exact": ("D", "#b5541c")}
_REJECTED = {"rejected": ("^", "#6b6b6b")}


class PlotImpossible(Exception):
    """The plot cannot be written; the message says why."""


def check_plot(path: Path) -> None:
    """Raise ``PlotImpossible`` if a plot could not be written. Called before hours are spent on its figures."""
    if path.suffix.lower() not in SUFFIXES:
        raise PlotImpossible(f"A plot is written as {', '.join(SUFFIXES)}; {path} ends otherwise.")
    if importlib.util.find_spec("matplotlib") is None:
        raise PlotImpossible("The plot needs matplotlib, which is not installed: pip install matplotlib")


def write_plot(evaluation: Evaluation, path: Path) -> None:
    """Draw the shares of each condition with their intervals. Raises ``OSError``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = {"all": figures(evaluation.results)}
    groups |= {condition: figures(results) for condition, results in evaluation.by_condition().items()}
    series = _SERIES | (_REJECTED if groups["all"].others else {})
    # Not pyplot, which looks for a screen.
    figure = Figure(figsize=(9, 1.8 + 0.5 * len(groups)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for place, (name, (marker, colour)) in enumerate(series.items()):
        points = [(row, getattr(found, name)) for row, found in enumerate(groups.values())]
        shown = [(row, rate) for row, rate in points if rate.of]
        axes.errorbar(
            [100 * (rate.share or 0) for _, rate in shown],
            # Side by side, so that intervals do not hide each other.
            [row + 0.16 * (place - (len(series) - 1) / 2) for row, _ in shown],
            xerr=list(zip(*(_whiskers(rate) for _, rate in shown), strict=True)) or None,
            fmt=marker,
            color=colour,
            markersize=5,
            capsize=2,
            linewidth=1,
            label=RATES[name],
        )
    axes.set_yticks(range(len(groups)), [f"{name} ({_count(found)})" for name, found in groups.items()])
    axes.invert_yaxis()
    axes.set_xlim(-2, 102)
    axes.set_xlabel("% with 95% Wilson intervals")
    axes.grid(axis="x", alpha=0.3)
    axes.set_title(f"{len(evaluation.results)} {evaluation.kind}, {evaluation.reader}", fontsize=10)
    figure.legend(loc="outside lower center", ncols=len(series), frameon=False)
    figure.savefig(path, dpi=150)


def _whiskers(rate: Rate) -> tuple[float, float]:
    """How far the interval reaches to the left and to the right of the share, in percent."""
    share = rate.share or 0.0
    low, high = rate.interval or (share, share)
    return max(0.0, 100 * (share - low)), max(0.0, 100 * (high - share))


def _count(found: Figures) -> int:
    return found.cards + found.others
