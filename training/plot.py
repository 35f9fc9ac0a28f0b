"""``python -m training.plot RUN FILE.png``: loss and accuracy of a run, also while it goes on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

#: members of the log that each of the three plots shows, with their labels
PLOTS: tuple[tuple[str, dict[str, str]], ...] = (
    ("Loss", {"words": "next token", "letters": "letters on pages", "guide": "guided attention"}),
    (
        "While training",
        {"eye": "letters right on pages", "card_eye": "letters right on cards", "read": "card letters written right"},
    ),
    (
        "Held-out specimens, right answer given so far",
        {"flat_field_exact": "flat: fields", "flat_nik_digits": "flat: NIK digits", "all_field_exact": "all: fields"},
    ),
)


def read_log(log: Path) -> list[dict[str, Any]]:
    """The lines of a run's log. Lines after a start's last checkpoint are replaced by the next start's."""
    lines: list[dict[str, Any]] = []
    for text in log.read_text().splitlines():
        line = json.loads(text)
        while lines and lines[-1]["step"] > line["step"]:
            lines.pop()
        lines.append(line)
    return lines


def plot(log: Path, file: Path) -> None:
    """Draw a run's ``log`` into ``file``, whose ending says the format."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = read_log(log)
    figure, axes = pyplot.subplots(len(PLOTS), 1, figsize=(8, 10), sharex=True)
    for axis, (title, curves) in zip(axes, PLOTS, strict=True):
        for key, label in curves.items():
            points = [(line["seconds"] / 60, line[key]) for line in lines if key in line]
            if points:
                axis.plot(*zip(*points, strict=True), label=label, linewidth=1)
        axis.set_title(title)
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend()
    axes[-1].set_xlabel("minutes of training")
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m training.plot", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    plot(options.run / "log.jsonl", options.file)
