"""The measurements of the engine: that they run, and what their figures mean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.engine.__main__ import main
from benchmarks.engine.measure import AT_ONCE, Cell, Measurements, Plan
from benchmarks.engine.questions import ask
from benchmarks.engine.report import figures
from benchmarks.engine.runs import Run


def test_a_small_run_reports_every_contestant_that_takes_part(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", str(tiny_model), "--rows", "2", "--tokens", "6", "--rounds", "1", "--torch-threads", "1"]
    assert main([*arguments, "--skip", "generate-a-thread,transformers-serve", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["failed"] == []
    measured = {(c["contestant"], c["media"], c["arrivals"], c["rows"]) for c in report["cells"]}
    assert {("engine", media, "at once", rows) for media in ("text", "image") for rows in (1, 2)} <= measured
    assert ("static batch", "image", "at once", 2) in measured
    assert ("engine", "text", "staggered", 2) in measured
    assert ("static batch", "text", "staggered", 2) not in measured


def test_a_ratio_is_taken_within_a_round_and_not_of_the_medians() -> None:
    found = Measurements()
    rates = {"engine": [100, 10, 400], "static batch": [50, 10, 100]}
    for contestant, of_rounds in rates.items():
        found.runs[Cell(contestant, AT_ONCE, "text", 1)] = [Run(rate, 1.0, (0.1,)) for rate in of_rounds]
    plan = Plan(rows=[1], media=["text"], rounds=3, tokens=1, warm_up_tokens=1, patience=1, deadline=0)
    [ratio] = figures(found, plan, {}, None)["ratios"]
    assert (ratio["median"], ratio["least"], ratio["most"]) == (2, 1, 4)


def test_no_two_draws_ask_the_same() -> None:
    first, again, second = (ask("image", 2, tokens=4, draw=draw, image_size=(64, 32)) for draw in (1, 1, 2))
    assert first[0].messages == again[0].messages
    assert first[0].images[0].tobytes() == again[0].images[0].tobytes()
    everything = [*first, *second]
    assert len({str(request.messages) for request in everything}) == 4
    assert len({request.images[0].tobytes() for request in everything}) == 4
