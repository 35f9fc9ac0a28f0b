from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


class Hub(BaseHTTPRequestHandler):
    """As much of the model hub as a download of one model needs; ``folder`` is set by the test."""

    folder: Path
    commit = "0123456789abcdef0123456789abcdef01234567"

    def do_HEAD(self) -> None:
        self.answer(send_body=False)

    def do_GET(self) -> None:
        self.answer(send_body=True)

    def answer(self, *, send_body: bool) -> None:
        path = self.path.partition("?")[0]
        headers = {"X-Repo-Commit": self.commit}
        if path.startswith("/api/models/someone/tiny/tree/"):
            body = json.dumps([self.listed(file) for file in sorted(self.folder.iterdir())]).encode()
        elif path.startswith("/api/models/someone/tiny"):
            body = json.dumps({"id": "someone/tiny", "sha": self.commit, "siblings": []}).encode()
        else:
            body = (self.folder / path.rpartition("/")[2]).read_bytes()
            headers["ETag"] = f'"{hashlib.sha1(body, usedforsecurity=False).hexdigest()}"'
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if send_body:
            self.wfile.write(body)

    def listed(self, file: Path) -> dict[str, Any]:
        blob = hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()
        return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": blob}

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def hub(tiny_model: Path) -> Iterator[str]:
    handler = type("HubOfTheTinyModel", (Hub,), {"folder": tiny_model})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_download_tells_its_bytes(hub: str, tiny_model: Path, tmp_path: Path) -> None:
    # In a process of its own, because the hub's address is read once, at import.
    code = (
        "from inference.engine.loading import load_model\n"
        "loaded = load_model('someone/tiny', on_progress=lambda progress: print('TOLD', progress))\n"
        "print('REVISION', loaded.revision)\n"
    )
    environment = {
        "HF_ENDPOINT": hub,
        "HF_HOME": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PATH": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    told = [line for line in done.stdout.splitlines() if line.startswith("TOLD downloading: ")]
    megabytes = sum(file.stat().st_size for file in tiny_model.iterdir()) / 1e6
    assert told[-1] == f"TOLD downloading: {megabytes:,.1f} of {megabytes:,.1f} MB (100%)"
    assert len(told) > 3
    assert f"REVISION {Hub.commit}" in done.stdout
    assert done.stderr == ""


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


@pytest.mark.parametrize("name", ["8bit", "4bit"])
def test_quantization_without_a_gpu_is_refused(tiny_model: Path, name: str) -> None:
    with pytest.raises(LoadError, match="needs an NVIDIA GPU"):
        load_model(str(tiny_model), device_map="cpu", quantization=name)


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
