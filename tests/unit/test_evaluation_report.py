"""What an evaluation shows: tables, JSON and a plot."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ocr.evaluation.labelled import LabelledPicture
from ocr.evaluation.plot import PlotImpossible, check_plot, write_plot
from ocr.evaluation.report import Evaluation, as_json, as_text
from ocr.evaluation.results import ReaderAnswer, Result, failed_answer
from ocr.reading.problems import Problem
from ocr.reading.schema import empty_values
from tests.ktp_card import CARD


def read_card(file: str, condition: str = "flat", *, is_synthetic: bool = True, **wrong: str) -> Result:
    specimen = LabelledPicture(file, Path(file), condition, True, CARD, frozenset(), is_synthetic)
    return Result(specimen, ReaderAnswer(CARD | wrong, (Problem("nik", "nik_unused_district", "info"),), 0.5))


def rejected_picture(file: str) -> Result:
    specimen = LabelledPicture(file, Path(file), "landscape", False, empty_values(), frozenset(), True)
    return Result(specimen, ReaderAnswer(empty_values(), (Problem(None, "nothing_read"),), 0.5))


def evaluation(*results: Result, planned: int | None = None) -> Evaluation:
    return Evaluation("heldout", "reader at http://h", 2, 61.2, planned or len(results), results)


MIXED = evaluation(
    read_card("2.jpg", "tilted", nama="SALAH SEKALI"), read_card("1.jpg"), read_card("3.jpg"), rejected_picture("4.jpg")
)


def lines_with(text: str, start: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip().startswith(start)]


def test_the_table_says_what_was_read_by_whom_and_how_long_it_took() -> None:
    first, second, *_ = as_text(MIXED).splitlines()
    assert first == "4 synthetic specimens of heldout"
    assert second == "read by reader at http://h, 2 at a time, in 61 s"


def test_a_run_that_was_stopped_says_how_far_it_came() -> None:
    assert as_text(evaluation(read_card("1.jpg"), planned=500)).startswith("1 of 500 synthetic specimens of heldout\n")


def test_pictures_without_a_seed_are_not_called_synthetic() -> None:
    text = as_text(evaluation(read_card("1.jpg"), read_card("2.jpg", is_synthetic=False)))
    assert text.startswith("2 labelled pictures of heldout\n")


def test_a_share_stands_with_its_interval_and_its_count() -> None:
    # Wilson at 2 of 3 and at 1 of 1.
    assert lines_with(as_text(MIXED), "Card exact") == [["Card", "exact", "66.7%", "20.8–93.9", "2", "of", "3"]]
    assert lines_with(as_text(MIXED), "Other pictures rejected")[0][3:] == ["100.0%", "20.7–100.0", "1", "of", "1"]
    assert lines_with(as_text(MIXED), "Invented where hidden") == [["Invented", "where", "hidden", "–"]]


def test_every_condition_and_every_field_has_a_line() -> None:
    text = as_text(MIXED)
    assert lines_with(text, "flat")[0][:3] == ["flat", "2", "100.0%"]
    assert lines_with(text, "tilted")[0][:3] == ["tilted", "1", "0.0%"]
    assert lines_with(text, "landscape")[0] == ["landscape", "1", "–", "–", "–", "–", "–", "100.0%", "(20–100)"]
    assert lines_with(text, "Nama") == [["Nama", "66.7%", "20.8–93.9"]]
    assert lines_with(text, "RT/RW") == [["RT/RW", "100.0%", "43.9–100.0"]]


def test_lines_fit_a_wide_terminal() -> None:
    assert max(map(len, as_text(MIXED).splitlines())) <= 125


def test_reasons_for_which_pictures_were_not_answered_are_counted() -> None:
    failed = [Result(read_card(f"{n}.jpg").specimen, failed_answer("503: full", seconds=1)) for n in range(3)]
    text = as_text(evaluation(*failed, read_card("9.jpg")))
    assert lines_with(text, "Not answered") == [["Not", "answered", "3"]]
    assert "    3 × 503: full\n" in text


def test_the_json_holds_all_figures_and_a_line_for_each_picture_and_no_value_of_a_card() -> None:
    text = json.dumps(as_json(MIXED))
    found = json.loads(text)
    assert (found["kind"], found["planned"], found["complete"]) == ("synthetic specimens", 4, True)
    assert found["all"]["card_exact"] == {
        "share": pytest.approx(2 / 3),
        "low": pytest.approx(0.2077, abs=1e-4),
        "high": pytest.approx(0.9385, abs=1e-4),
        "hits": 2,
        "of": 3,
    }
    assert found["all"]["exact_by_field"]["nama"]["hits"] == 2
    assert found["all"]["p50"] == 0.5
    assert list(found["by_condition"]) == ["flat", "landscape", "tilted"]
    assert found["by_condition"]["tilted"]["card_exact"]["hits"] == 0
    assert [picture["file"] for picture in found["pictures"]] == ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]
    assert found["pictures"][1]["wrong"] == found["pictures"][1]["wrong_unflagged"] == ["nama"]
    assert CARD["nama"] not in text
    assert "SALAH SEKALI" not in text


def test_the_json_holds_the_wrong_values_when_they_are_asked_for() -> None:
    found = as_json(MIXED, with_values=True)
    assert found["pictures"][1]["values"] == {"nama": {"printed": CARD["nama"], "read": "SALAH SEKALI"}}
    assert found["pictures"][0]["values"] == {}


@pytest.mark.parametrize("results", [MIXED.results, [rejected_picture("1.jpg")], [read_card("1.jpg")]])
def test_a_plot_names_its_conditions_and_that_they_are_synthetic(tmp_path: Path, results: list[Result]) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "figures.svg"
    write_plot(evaluation(*results), path)
    comments = path.read_text()
    # matplotlib draws letters as shapes and keeps the words beside them.
    assert f"<!-- {len(results)} synthetic specimens, reader at http://h -->" in comments
    for condition in {result.specimen.condition for result in results}:
        assert f"<!-- {condition} (" in comments
    assert ElementTree.parse(path).getroot().tag.endswith("svg")  # noqa: S314  (written a moment ago)


def test_a_plot_without_matplotlib_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PlotImpossible, match="pip install matplotlib"):
        check_plot(Path("figures.png"))


def test_a_plot_of_an_unknown_format_is_refused() -> None:
    with pytest.raises(PlotImpossible, match=r"\.png, \.svg, \.pdf; figures ends otherwise"):
        check_plot(Path("figures"))
