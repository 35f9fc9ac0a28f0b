from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from inference.engine.prompts import PromptMaker
from inference.engine.types import GenerationRequest, Sampling, Video
from inference.management.commands.build_tiny_model import Command
from inference.tiny_models.vision import VOCABULARY_SIZE, build_tiny_model, is_complete


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_seed_gives_the_same_bytes(tiny_model: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert contents(build_tiny_model(tmp_path / "again")) == contents(tiny_model)
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_gives_other_weights_only(tiny_model: Path, tmp_path: Path) -> None:
    one, other = contents(tiny_model), contents(build_tiny_model(tmp_path / "other", seed=1))
    assert {name for name in one if one[name] != other[name]} == {"model.safetensors"}


def test_a_build_leaves_nothing_but_the_folder(tmp_path: Path) -> None:
    build_tiny_model(tmp_path / "deep" / "tiny")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["tiny"]


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        build_tiny_model(tmp_path / "file" / "tiny")
    with pytest.raises(RuntimeError):
        build_tiny_model(tmp_path / "tiny", seed="no number")  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_it_is_small_and_of_the_real_architecture(own_layers: Any) -> None:
    loaded = own_layers
    assert 1_000_000 < sum(weight.numel() for weight in loaded.model.parameters()) < 2_000_000
    assert type(loaded.model).__name__ == "Qwen3VLForConditionalGeneration"
    assert type(loaded.processor).__name__ == "Qwen3VLProcessor"
    assert len(loaded.tokenizer) == VOCABULARY_SIZE


@pytest.mark.parametrize("text", ["Selamat pagi, what's new?", "Rp 12.500 😀 naïve\n\n\ttab", "RT 003/RW 012"])
def test_the_tokenizer_gives_back_what_it_was_given(loaded: Any, text: str) -> None:
    ids = loaded.tokenizer(text).input_ids
    assert loaded.tokenizer.decode(ids) == text
    assert b"".join(loaded.vocabulary.token_bytes[i] for i in ids).decode() == text


def test_a_photo_and_a_video_cost_few_tokens(loaded: Any) -> None:
    def tokens(part: str, **media: Any) -> int:
        request = GenerationRequest([{"role": "user", "content": [{"type": part}]}], Sampling(max_tokens=1), **media)
        return PromptMaker(loaded, max_context_tokens=4096).make(request).prompt_tokens

    for size in [(4000, 3000), (640, 480), (20, 20), (1600, 100)]:
        assert tokens("image", images=[Image.new("RGB", size)]) <= 100
    frames = np.zeros((16, 360, 640, 3), np.uint8)
    assert tokens("video", videos=[Video(frames, [n / 2 for n in range(16)])]) <= 300


def test_greedy_text_is_no_endless_repetition(start_engine: Any, make_request: Any, collect: Any) -> None:
    ids = collect(start_engine().submit(make_request(max_tokens=200, ignore_eos=True))).ids
    assert len(set(ids[-100:])) > 20


def run(*arguments: str) -> str:
    out = io.StringIO()
    command = Command(stdout=out, no_color=True)
    parser = command.create_parser("manage.py", "build_tiny_model")
    command.execute(**vars(parser.parse_args(list(arguments))))
    return out.getvalue()


def test_the_command_builds_once_and_again_only_by_force(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    assert "is built (seed 3)" in run(str(folder), "--seed", "3")
    assert is_complete(folder)
    first = contents(folder)
    assert "nothing to do" in run(str(folder))
    assert contents(folder) == first
    assert "is built (seed 4)" in run(str(folder), "--seed", "4", "--force")
    assert contents(folder) != first
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_the_command_does_not_overwrite_a_folder_of_something_else(tmp_path: Path) -> None:
    from django.core.management.base import CommandError

    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CommandError, match="not a model folder"):
        run(str(tmp_path), "--force")
    assert (tmp_path / "notes.txt").read_text() == "mine"
