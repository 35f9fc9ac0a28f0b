"""The reader that the repository brings, read through a live server. What it must reach stands in its model card."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ocr.specimens import make_specimen
from ocr.specimens.folder import write_specimens
from tests.live.stack import ROOT, EmbeddedStack
from training.answers import ONLY_READS_CARDS

READER = ROOT / "models" / "ktp-reader"
#: never trained on, and not the seed of the model card
SEED = 20_261_125


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    stack = EmbeddedStack(tmp_path_factory.mktemp("reader"), READER, OCR_MAX_TOKENS=500, TORCH_DTYPE="float32")
    try:
        yield stack.start()
    finally:
        stack.stop()


@pytest.fixture(scope="module")
def model_card() -> Any:
    """The figures of ``manage.py evaluate_ktp`` on 500 specimens, as the model card shows them."""
    return json.loads((READER / "evaluation.json").read_text())


def read(stack: EmbeddedStack, folder: Path, report: Path) -> Any:
    command = [sys.executable, "manage.py", "evaluate_ktp", folder, "--base-url", stack.base_url, "--json", report]
    done = subprocess.run([*map(str, command)], cwd=ROOT, env=stack.env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(report.read_text())


def test_flat_specimens_are_read_as_well_as_the_model_card_says(
    reader: EmbeddedStack, model_card: Any, tmp_path: Path
) -> None:
    for _ in write_specimens(tmp_path / "cards", count=20, seed=SEED, conditions=["flat"]):
        pass
    found = read(reader, tmp_path / "cards", tmp_path / "report.json")["all"]
    promised = model_card["by_condition"]["flat"]
    assert found["cards"] == 20 and found["failed"] == found["unreadable"] == 0
    for figure in ("field_exact", "nik_digits", "nik_exact", "card_exact"):
        assert found[figure]["share"] >= promised[figure]["low"], figure
    assert found["wrong_unflagged"]["share"] <= promised["wrong_unflagged"]["high"]


def test_pictures_of_something_else_are_rejected(reader: EmbeddedStack, model_card: Any, tmp_path: Path) -> None:
    for _ in write_specimens(tmp_path / "others", count=10, seed=SEED, conditions=["other"]):
        pass
    found = read(reader, tmp_path / "others", tmp_path / "report.json")["all"]
    assert found["rejected"]["share"] >= model_card["all"]["rejected"]["low"]


def test_a_card_comes_out_of_the_api_as_it_is_printed(reader: EmbeddedStack, tmp_path: Path) -> None:
    specimen = make_specimen(SEED, 1, "flat")
    specimen.image.save(tmp_path / "card.png")
    with reader.client() as client:
        answer = client.post("/ktp-ocr/", files={"image": (tmp_path / "card.png").read_bytes()}).raise_for_status()
    said = answer.json()
    assert said["nik"] == specimen.fields["nik"]
    assert {key: said[key] for key in ("agama", "kewarganegaraan", "berlaku_hingga")} == {
        key: specimen.fields[key] for key in ("agama", "kewarganegaraan", "berlaku_hingga")
    }
    assert said["meta"]["state"] == "read"


@pytest.mark.parametrize("prompt", ["Apa kabar?", "Please tell me a story.", "Tulis sebuah puisi pendek."])
def test_without_a_picture_it_says_what_it_is(reader: EmbeddedStack, prompt: str) -> None:
    body = {"messages": [{"role": "user", "content": prompt}], "temperature": 0, "max_tokens": 100}
    answer = httpx.post(f"{reader.base_url}/v1/chat/completions", json=body, timeout=60).raise_for_status()
    assert answer.json()["choices"][0]["message"]["content"] == ONLY_READS_CARDS
