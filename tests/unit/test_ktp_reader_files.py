"""The reader that the repository brings: its files, and that its card says what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ocr.evaluation.report import RATES

READER = Path(__file__).parents[2] / "models" / "ktp-reader"
MAX_BYTES = 25 * 10**6


def test_the_weights_are_small_and_in_bfloat16() -> None:
    [file] = READER.glob("*.safetensors")
    assert file.stat().st_size <= MAX_BYTES
    weights = load_file(file)
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert all(tensor.isfinite().all() for tensor in weights.values())


@pytest.mark.parametrize("figure", RATES)
def test_the_model_card_shows_what_was_measured(figure: str) -> None:
    evaluation = json.loads((READER / "evaluation.json").read_text())
    assert evaluation["complete"] and evaluation["planned"] == 500 and evaluation["kind"] == "synthetic specimens"
    rate = evaluation["all"][figure]
    low, high = 100 * rate["low"], 100 * rate["high"]
    line = f"| {RATES[figure]} | {rate['share']:.1%} | {low:.1f}–{high:.1f} | {rate['hits']} of {rate['of']} |"
    assert line in (READER / "README.md").read_text().splitlines()


def test_the_model_card_says_what_the_reader_is_not_for() -> None:
    card = (READER / "README.md").read_text()
    assert "Synthetic specimens only; not for real decisions." in card
    assert (READER / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_it_was_exported_by_the_tokenizer_of_today() -> None:
    """A prompt or a contract that changed since makes other tokens than those that it was trained with."""
    from transformers import AutoTokenizer

    from training.tokenizer import make_tokenizer

    shipped, made = AutoTokenizer.from_pretrained(READER), make_tokenizer()
    assert shipped.get_vocab() == made.get_vocab()
