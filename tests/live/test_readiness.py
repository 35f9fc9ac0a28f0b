"""What callers get before there is a model, and when there will be none."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.live.events import QUESTION
from tests.live.stack import START_SECONDS, EmbeddedStack
from tests.media_samples import image_bytes
from tests.waiting import wait_for


@pytest.fixture
def broken_server(tiny_model: Path, tmp_path: Path) -> Iterator[EmbeddedStack]:
    """Its model's weights are cut off."""
    model = tmp_path / "broken-model"
    shutil.copytree(tiny_model, model)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    stack = EmbeddedStack(tmp_path / "server", model)
    try:
        stack.launch("serve", "manage.py", "serve", "--port", str(stack.port))
        yield stack.wait_for_health("ok")
    finally:
        stack.stop()


def health(http: httpx.Client) -> dict[str, object]:
    return dict(http.get("/health").json())


def test_a_model_that_cannot_be_loaded_is_a_503_with_the_reason_and_without_paths(broken_server: EmbeddedStack) -> None:
    server = broken_server
    with server.client() as http:
        waiting = http.post("/v1/chat/completions", json=QUESTION | {"stream": False})
        wait_for(lambda: health(http)["error"] and "broken-model" in str(health(http)["error"]))
        told = health(http)
        assert (told["ok"], told["modelReady"], told["modelId"]) == (True, False, "broken-model")
        chat = http.post("/v1/chat/completions", json=QUESTION)
        card = http.post("/ktp-ocr/", files={"image": image_bytes((64, 40))})
        for refused in (waiting, chat, card):
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "model_not_loaded"
            assert "broken-model" in refused.json()["error"]["message"]
            assert str(server.folder.parent) not in refused.text
        assert str(server.folder.parent) not in str(told)
    assert server.query("SELECT count(*) FROM ocr_ktpextraction") == [(0,)]


def test_a_model_that_is_mended_is_loaded_at_a_sighup(broken_server: EmbeddedStack, tiny_model: Path) -> None:
    server = broken_server
    process = server.processes["serve"]
    with server.client() as http:
        wait_for(lambda: health(http)["error"], seconds=START_SECONDS)
        refused = http.post("/v1/chat/completions", json=QUESTION | {"stream": False})
        shutil.copy(tiny_model / "model.safetensors", Path(server.env["MODEL_REPO_ID"]) / "model.safetensors")
        os.kill(process.pid, signal.SIGHUP)
        server.wait_for_health("modelReady")
        answer = http.post("/v1/chat/completions", json=QUESTION | {"stream": False})
    assert (refused.status_code, answer.status_code) == (503, 200)
    assert "loading broken-model: loading the weights: " in process.log.read_text()


def test_a_request_that_comes_while_the_model_loads_waits_for_it(tiny_model: Path, tmp_path: Path) -> None:
    stack = EmbeddedStack(tmp_path / "loading", tiny_model)
    stack.launch("serve", "manage.py", "serve", "--port", str(stack.port))
    try:
        stack.wait_for_health("ok")
        with stack.client() as http:
            early = health(http)
            answer = http.post("/v1/chat/completions", json=QUESTION | {"stream": False})
        assert early["ok"] is True
        assert answer.status_code == 200
    finally:
        stack.stop()


def test_the_port_being_taken_is_said_in_words(start_embedded: Callable[..., EmbeddedStack]) -> None:
    first = start_embedded()
    second = EmbeddedStack(first.folder / "second", Path(first.env["MODEL_REPO_ID"]))
    process = second.launch("serve", "manage.py", "serve", "--port", str(first.port))
    wait_for(lambda: not process.is_running())
    assert f"Cannot listen on 127.0.0.1:{first.port}: " in process.log.read_text()
    assert "Traceback" not in process.log.read_text()
