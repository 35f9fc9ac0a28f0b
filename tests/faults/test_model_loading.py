"""A worker whose model cannot be loaded spoils nothing for those that have it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import FaultyStack
from tests.live.events import QUESTION, WHOLE
from tests.live.stack import Process
from tests.live.waiting import wait_for

pytestmark = [pytest.mark.redis, pytest.mark.postgresql]


def start_broken_worker(stack: FaultyStack, model: Path) -> Process:
    """A worker of the same stack whose weights are cut off."""
    broken = stack.folder / model.name
    shutil.copytree(model, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    whole, stack.env["MODEL_REPO_ID"] = stack.env["MODEL_REPO_ID"], str(broken)
    process = stack.start_worker("broken")
    stack.env["MODEL_REPO_ID"] = whole
    return process


def test_requests_are_answered_by_the_worker_that_has_the_model(
    start_stack: Callable[..., FaultyStack], tiny_model: Path
) -> None:
    # Long: a message that is left lying is not sent again in this test.
    stack = start_stack(SESSION_REQUEUE_SECONDS=600)
    start_broken_worker(stack, tiny_model)
    wait_for(lambda: stack.query("SELECT 1 FROM inference_modelworker WHERE state = 'failed'"))
    with stack.client() as http:
        assert http.get("/health").json()["modelReady"] is True
        for number in range(12):
            answer = http.post("/v1/chat/completions", json=QUESTION | WHOLE | {"session_id": f"n-{number}"})
            assert answer.status_code == 200


def test_sessions_that_wait_fail_with_the_reason_when_the_only_worker_cannot_load(
    start_stack: Callable[..., FaultyStack], tiny_model: Path
) -> None:
    stack = start_stack(with_worker=False)
    start_broken_worker(stack, tiny_model)
    with stack.client() as http:
        waiting = http.post("/v1/chat/completions", json=QUESTION | WHOLE)
    assert waiting.status_code == 503
    assert waiting.json()["error"]["code"] == "model_not_loaded"
