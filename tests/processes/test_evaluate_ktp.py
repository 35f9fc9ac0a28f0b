"""``manage.py evaluate_ktp`` with a model of its own, which needs no database, and what it refuses."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from ocr.evaluation.asking import ask_all
from ocr.evaluation.labelled import read_folder
from ocr.evaluation.readers import ReaderUnusable
from ocr.evaluation.results import ReaderAnswer
from tests.ktp_card import CARD
from tests.labelled_cards import label, other_label, write_folder


@pytest.fixture
def cards(tmp_path: Path) -> Path:
    return write_folder(
        tmp_path / "cards",
        [
            label("1.jpg"),
            label("2.png", condition="covered", hidden=["nik", "nama"]),
            label("3.jpg"),
            other_label("4.jpg"),
        ],
    )


@pytest.fixture
def evaluate(settings: Any, tiny_model: Path) -> Any:
    """Runs the command; what it printed."""
    settings.MODEL_REPO_ID = str(tiny_model)
    settings.SERVED_MODEL_NAME = "tiny"
    settings.OCR_MAX_TOKENS = 16
    # Random weights that are held to the form say something of every field.
    settings.OCR_GRAMMAR = False

    def run(*arguments: object, **options: Any) -> str:
        out = io.StringIO()
        call_command("evaluate_ktp", *map(str, arguments), stdout=out, stderr=io.StringIO(), **options)
        return out.getvalue()

    return run


def test_a_model_that_is_loaded_for_the_run_reads_every_picture(evaluate: Any, cards: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report, plot = tmp_path / "report.json", tmp_path / "plot.png"
    text = evaluate(cards, "--concurrency", 2, "--json", report, "--plot", plot)
    assert text.startswith(
        f"4 synthetic specimens of {cards}\nread by tiny, loaded for this run (cpu, float32), 2 at a time"
    )
    found = json.loads(report.read_text())
    assert found["complete"]
    assert (found["all"]["cards"], found["all"]["others"], found["all"]["failed"]) == (3, 1, 0)
    # Random weights read nothing, and nothing read is nothing right.
    assert found["all"]["card_exact"]["hits"] == found["all"]["nik_exact"]["hits"] == 0
    assert found["all"]["rejected"]["hits"] == 0
    assert found["all"]["unreadable"] == 4
    assert all(picture["seconds"] > 0 for picture in found["pictures"])
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_limit_takes_the_first_pictures(evaluate: Any, cards: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    evaluate(cards, "--limit", 2, "--json", report)
    assert [picture["file"] for picture in json.loads(report.read_text())["pictures"]] == ["1.jpg", "2.png"]


def test_a_file_that_is_no_picture_is_not_answered_and_the_others_are(evaluate: Any, cards: Path) -> None:
    (cards / "3.jpg").write_bytes(b"no picture")
    text = evaluate(cards)
    assert "1 × This is not an image in an accepted format." in text
    assert "Answers not readable          3\n" in text


def test_a_model_that_cannot_be_loaded_is_one_line(evaluate: Any, cards: Path, settings: Any, tmp_path: Path) -> None:
    settings.MODEL_REPO_ID = str(tmp_path)
    with pytest.raises(CommandError, match="holds no model"):
        evaluate(cards)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--limit", "0"], "--limit must be above 0; it is 0"),
        (["--concurrency", "-1"], "--concurrency must be above 0; it is -1"),
        (["--timeout", "nan"], "--timeout must be above 0; it is nan"),
        (["--api-key", "k"], "say which with --base-url"),
        (["--values"], "say which with --json"),
        (["--json", "missing/report.json"], "There is no folder missing to write --json into"),
        (["--plot", "plot.doc"], "A plot is written as .png, .svg, .pdf"),
        (["--base-url", "127.0.0.1:1"], "No server answers at 127.0.0.1:1"),
        (["--base-url", "http://host:port"], "is no address of a server"),
        (["--base-url", "http://127.0.0.1:1", "--api-key", "κλειδί"], "the API key is no plain text"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_work(
    evaluate: Any, cards: Path, arguments: list[str], complaint: str
) -> None:
    with pytest.raises(CommandError) as refusal:
        evaluate(cards, *arguments)
    assert complaint in str(refusal.value)


def test_a_broken_label_is_refused_with_its_line(evaluate: Any, cards: Path) -> None:
    with (cards / "labels.jsonl").open("a") as labels:
        labels.write("{}\n")
    with pytest.raises(CommandError, match=r"labels\.jsonl, line 5: file: Field required\.$"):
        evaluate(cards)


class Perfect:
    """A reader that knows the cards."""

    name = "perfect"

    def __init__(self, *, unusable_after: int = 1000) -> None:
        self.read_files: list[str] = []
        self._unusable_after = unusable_after

    def read(self, data: bytes, file_name: str) -> ReaderAnswer:
        if len(self.read_files) >= self._unusable_after:
            raise ReaderUnusable("gone")
        self.read_files.append(file_name)
        return ReaderAnswer(CARD, (), 0.1)

    def close(self) -> None:
        """Nothing to let go of."""


@pytest.mark.parametrize("concurrency", [1, 3, 50])
def test_every_picture_is_shown_once_however_many_at_a_time(cards: Path, concurrency: int) -> None:
    reader = Perfect()
    results = list(ask_all(reader, read_folder(cards), concurrency=concurrency))
    assert sorted(result.specimen.file for result in results) == ["1.jpg", "2.png", "3.jpg", "4.jpg"]
    assert sorted(reader.read_files) == ["1.jpg", "2.png", "3.jpg", "4.jpg"]
    assert {result.specimen.file: len(result.wrong) for result in results} == {
        "1.jpg": 0,
        "2.png": 2,
        "3.jpg": 0,
        "4.jpg": 14,
    }


def test_what_was_read_before_the_reader_was_lost_is_kept(cards: Path) -> None:
    results = ask_all(Perfect(unusable_after=2), read_folder(cards), concurrency=1)
    assert [next(results).specimen.file, next(results).specimen.file] == ["1.jpg", "2.png"]
    with pytest.raises(ReaderUnusable, match="gone"):
        next(results)
