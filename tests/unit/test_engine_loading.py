from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inference.engine.errors import LoadError
from inference.engine.loading import load_model
from inference.engine.tiny_model import CONTEXT_LENGTH


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


def test_progress_is_reported(tiny_model: Path) -> None:
    stages: list[str] = []
    load_model(str(tiny_model), dtype="bfloat16", on_progress=stages.append)
    assert stages == ["loading the processor", "loading the weights", "ready"]


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


def test_a_model_of_another_architecture_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(LoadError, match="is a gpt2"):
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


def test_a_hub_that_cannot_be_reached_is_said_to_be_so(tmp_path: Path) -> None:
    # In a process of its own, because the hub's address is read once, at import.
    code = (
        "from inference.engine.loading import load_model\n"
        "from inference.engine.errors import LoadError\n"
        "try:\n    load_model('someone/some-model')\n"
        "except LoadError as error:\n    print('MESSAGE', error)\n"
    )
    environment = {
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PATH": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert "MESSAGE There is no folder 'someone/some-model', and the model hub cannot be reached" in done.stdout
    # Without a configured log, warnings come out as they are.
    assert len(done.stderr.splitlines()) == 1


def test_torchvision_imports_after_its_missing_operators_are_declared() -> None:
    # In a process of its own: whether torchvision imports is decided once a process.
    code = (
        "from inference.engine.torchvision_compat import declare_missing_operators\n"
        "declared = declare_missing_operators()\n"
        "assert declare_missing_operators() == []\n"
        "import torchvision, torch\n"
        "from torchvision.transforms.v2 import functional\n"
        "image = functional.resize(torch.zeros(3, 64, 64), [32, 32])\n"
        "has_operators = torchvision.extension._has_ops()\n"
        "print(sorted(declared) == ([] if has_operators else ['nms', 'qnms']), tuple(image.shape))\n"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split("\n")[0] == "True (3, 32, 32)"
