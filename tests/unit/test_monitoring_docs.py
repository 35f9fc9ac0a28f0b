"""The board, the alert rules and the page about metrics name what is there, and all of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import inference.metrics  # noqa: F401  (declares its metrics)
import ocr.metrics  # noqa: F401
from sessions_app.metrics import REGISTRY
from tests.live.stack import ROOT

DOCS = ROOT / "docs"
BOARD = DOCS / "monitoring" / "grafana.json"
ALERTS = DOCS / "monitoring" / "alerts.yml"
NAME = re.compile(r"sambung:\w+")
#: read from the database at a scrape
FACTS = set(NAME.findall((ROOT / "inference" / "fleet.py").read_text()))
SERIES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def declared() -> dict[str, str]:
    """Name as documented → type."""
    metrics = [metric for metric in REGISTRY.collect() if metric.name.startswith("sambung:")]
    found = {metric.name + ("_total" if metric.type == "counter" else ""): metric.type for metric in metrics}
    return found | dict.fromkeys(FACTS, "gauge")


def series() -> set[str]:
    """What can be asked for in a query."""
    return {
        name.removesuffix("_total") + ending if kind == "counter" else name + ending
        for name, kind in declared().items()
        for ending in SERIES[kind]
    }


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (panel for panel in board["panels"] if panel["type"] != "row")


def queries() -> list[str]:
    return [target["expr"] for panel in panels(json.loads(BOARD.read_text())) for target in panel["targets"]]


@pytest.mark.parametrize("file", [BOARD, ALERTS], ids=lambda path: path.name)
def test_every_metric_that_is_named_exists(file: Path) -> None:
    named = set(NAME.findall(file.read_text()))
    assert len(named) > 10
    assert named - series() == set()


def test_the_board_shows_every_metric() -> None:
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for query in queries() for name in NAME.findall(query)}
    assert set(declared()) - shown == set()


def test_the_page_has_every_metric_with_its_type_and_no_other() -> None:
    rows = re.findall(r"^\| (`sambung:.*?) \| (gauge|counter|histogram) \|", (DOCS / "monitoring.md").read_text(), re.M)
    assert {name: kind for names, kind in rows for name in NAME.findall(names)} == declared()


def test_the_panels_of_the_board_do_not_overlap_and_have_names_of_their_own() -> None:
    board = json.loads(BOARD.read_text())
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    titles = [panel["title"] for panel in panels(board)]
    assert len(titles) == len(set(titles))


def test_help_of_every_metric_is_a_sentence() -> None:
    for metric in REGISTRY.collect():
        if metric.name.startswith("sambung:"):
            assert re.fullmatch(r"[A-Z].*\.", metric.documentation), metric.name
