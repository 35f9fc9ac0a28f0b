from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from PIL import Image

from ocr.specimens import make_specimen


def _labels(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines()]


def test_it_writes_pictures_and_their_answers(tmp_path: Path) -> None:
    call_command("make_specimens", tmp_path / "cards", count=5, seed=3, width=256, processes=1, verbosity=0)
    labels = _labels(tmp_path / "cards")
    assert [label["file"] for label in labels] == [f"{i:06d}.jpg" for i in range(1, 6)]
    for label in labels:
        specimen = make_specimen(3, int(str(label["index"])), width=256)
        assert label["seed"] == 3
        assert label["condition"] == specimen.condition
        assert label["kind"] == specimen.kind
        assert label["fields"] == specimen.fields
        assert label["hidden"] == list(specimen.hidden)
        with Image.open(tmp_path / "cards" / str(label["file"])) as image:
            assert image.format == "JPEG"
            assert image.size == specimen.image.size


def test_conditions_take_turns(tmp_path: Path) -> None:
    call_command("make_specimens", tmp_path, "--condition=dim", "--condition=other", count=4, width=256, verbosity=0)
    assert [label["condition"] for label in _labels(tmp_path)] == ["other", "dim", "other", "dim"]


def test_the_files_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    for processes in (1, 2):
        call_command("make_specimens", tmp_path / str(processes), count=4, width=256, processes=processes, verbosity=0)
    files = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert len(files) == 5
    assert all((tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes() for name in files)


def test_specimens_may_be_made_anew_in_their_folder(tmp_path: Path) -> None:
    for count in (2, 3):
        call_command("make_specimens", tmp_path, count=count, width=256, processes=1, verbosity=0)
    assert len(_labels(tmp_path)) == 3


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear …")
    with pytest.raises(CommandError, match="is no folder of specimens"):
        call_command("make_specimens", tmp_path, count=1, verbosity=0)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("options", [{"count": 0}, {"width": 10}, {"processes": 0}])
def test_impossible_numbers_are_refused(tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(CommandError):
        call_command("make_specimens", tmp_path / "x", verbosity=0, **options)
