from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from inference.engine.errors import LoadError
from inference.engine.loading import load_model
from inference.engine.placement import parse_quantization
from inference.engine.progress import Progress
from inference.tiny_models.text import build_tiny_text_model
from inference.tiny_models.vision import CONTEXT_LENGTH


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(tiny_model, tmp_path / "copy"))


def test_a_loaded_model_says_what_it_is(loaded: Any) -> None:
    tokenizer = loaded.tokenizer
    assert loaded.context_length == CONTEXT_LENGTH
    assert loaded.dtype == "float32"
    assert set(loaded.eos_token_ids) == set(tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"]))
    assert loaded.vocabulary.think_end == tokenizer.convert_tokens_to_ids("</think>")
    assert not loaded.model.training


def test_progress_is_told_by_stages_and_in_the_long_ones_by_percent(tiny_model: Path) -> None:
    told: list[Progress] = []
    load_model(str(tiny_model), dtype="bfloat16", on_progress=told.append)
    counted = [progress for progress in told if progress.total]
    assert [str(p) for p in told if p not in counted] == ["loading the processor", "loading the weights", "ready"]
    assert len(counted) > 10
    assert [p.percent for p in counted] == sorted({p.percent for p in counted})
    assert counted[-1].done == counted[-1].total
    assert re.fullmatch(r"loading the weights: \d+ of \d+ \(100%\)", str(counted[-1]))


def test_files_of_weights_are_not_mapped_into_memory_on_a_cpu(tiny_model: Path) -> None:
    maps: list[str] = []

    def look(progress: Progress) -> None:
        if progress.total:
            maps.append(Path("/proc/self/maps").read_text())

    load_model(str(tiny_model), dtype="bfloat16", device_map="cpu", on_progress=look)
    assert maps
    assert not any(str(tiny_model / "model.safetensors") in text for text in maps)


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_a_causal_model_of_text_alone_is_loaded_without_a_processor(architecture: Any, tmp_path: Path) -> None:
    loaded = load_model(str(build_tiny_text_model(tmp_path / "text", architecture=architecture)))
    assert (loaded.has_media, loaded.processor) == (False, None)
    assert loaded.context_length == CONTEXT_LENGTH
    assert set(loaded.eos_token_ids) == set(loaded.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"]))
    ids = loaded.tokenizer("Apa kabar?", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        answer = loaded.model(ids, use_cache=True)
    assert answer.logits.shape == (1, ids.shape[1], len(loaded.vocabulary.token_bytes))
    assert answer.past_key_values.get_seq_length() == ids.shape[1]


def test_the_same_seed_builds_the_same_text_model(tmp_path: Path) -> None:
    first, same, other = (
        load_model(str(build_tiny_text_model(tmp_path / name, seed=seed))).revision
        for name, seed in [("first", 1), ("same", 1), ("other", 2)]
    )
    assert first == same != other


def test_a_text_model_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    folder = build_tiny_text_model(tmp_path / "text")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(LoadError, match="no chat template"):
        load_model(str(folder))


def test_the_revision_tells_weights_and_configuration_apart(tiny_model: Path, folder: Path) -> None:
    same = load_model(str(tiny_model)).revision
    assert load_model(str(folder)).revision == same
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    other = load_model(str(folder)).revision
    assert other != same
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert load_model(str(folder)).revision not in (same, other)


@pytest.mark.parametrize("source", ["", "./nowhere", "/nowhere/at/all", "a/b/c"])
def test_a_folder_that_is_not_there_is_named_as_given(source: str) -> None:
    with pytest.raises(LoadError, match="There is no model folder") as refusal:
        load_model(source)
    assert repr(source) in str(refusal.value)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="holds no model"):
        load_model(str(tmp_path))


def test_damaged_weights_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    monkeypatch.chdir(folder.parent)
    with pytest.raises(LoadError, match="'copy' cannot be loaded") as refusal:
        load_model("copy")
    assert str(folder.parent) not in str(refusal.value)


@pytest.mark.parametrize("model_type", ["qwen2_vl", "gemma3", "t5", "vit"])
def test_a_model_of_another_architecture_is_refused(folder: Path, model_type: str) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(LoadError, match=f"is a {model_type}; this engine runs qwen3_vl and qwen3_vl_moe"):
        load_model(str(folder))


def test_weights_that_do_not_cover_the_model_are_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 5
    config["text_config"].pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(LoadError, match="incomplete"):
        load_model(str(folder))


def test_a_missing_processor_is_refused(folder: Path) -> None:
    (folder / "processor_config.json").unlink()
    with pytest.raises(LoadError, match="cannot be loaded"):
        load_model(str(folder))


@pytest.mark.parametrize("name", ["int8", "nonsense", "float"[:2]])
def test_a_dtype_that_is_none_is_refused(tiny_model: Path, name: str) -> None:
    with pytest.raises(LoadError, match="dtype"):
        load_model(str(tiny_model), dtype=name)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", ""])
def test_a_device_that_is_none_is_named(tiny_model: Path, name: str) -> None:
    with pytest.raises(LoadError, match="is not a device") as refusal:
        load_model(str(tiny_model), device_map=name)
    assert f"device_map is {name!r}" in str(refusal.value)


@pytest.mark.parametrize("name", ["cuda:99", "meta"])
def test_a_device_that_is_not_here_is_named(tiny_model: Path, name: str) -> None:
    with pytest.raises(LoadError, match="here") as refusal:
        load_model(str(tiny_model), device_map=name)
    assert f"device_map is {name!r}" in str(refusal.value)


def test_four_bits_without_a_gpu_are_refused(tiny_model: Path) -> None:
    with pytest.raises(LoadError, match="needs an NVIDIA GPU"):
        load_model(str(tiny_model), device_map="cpu", quantization="4bit")


def test_quantization_without_its_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a machine with a GPU where only the base is installed.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LoadError, match=r"pip install -r requirements/quantization\.txt"):
        parse_quantization("8bit", placement="auto", dtype="auto")


def test_an_unknown_quantization_is_refused(tiny_model: Path) -> None:
    with pytest.raises(LoadError, match="use none, 8bit or 4bit"):
        load_model(str(tiny_model), quantization="2bit")


@pytest.mark.parametrize("name", ["cpu", "cpu:0"])
def test_the_cpu_is_always_here(tiny_model: Path, name: str) -> None:
    assert load_model(str(tiny_model), device_map=name).device.type == "cpu"


def test_the_log_has_the_cause_in_one_line_and_the_stack_for_who_looks_closer(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "model.safetensors").write_bytes(b"damaged")
    caplog.set_level("DEBUG", logger="inference.engine.loading")
    with pytest.raises(LoadError):
        load_model(str(folder))
    warning, stack = caplog.records
    assert (warning.levelname, warning.exc_info) == ("WARNING", None)
    assert "SafetensorError" in warning.getMessage()
    assert "\n" not in warning.getMessage()
    assert stack.levelname == "DEBUG"
    assert stack.exc_info
