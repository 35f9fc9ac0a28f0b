"""A worker whose model cannot be loaded spoils nothing for those that have it, and loads it once it is mended."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.faulty_stack import FaultyStack
from tests.live.events import QUESTION, WHOLE
from tests.live.stack import START_SECONDS, Process, Stack
from tests.waiting import wait_for

pytestmark = [pytest.mark.redis, pytest.mark.postgresql]


def start_broken_worker(stack: FaultyStack, model: Path) -> Process:
    """A worker of the same stack whose weights are cut off."""
    broken = stack.folder / model.name
    shutil.copytree(model, broken)
    damage(broken)
    whole, stack.env["MODEL_REPO_ID"] = stack.env["MODEL_REPO_ID"], str(broken)
    process = stack.start_worker("broken")
    stack.env["MODEL_REPO_ID"] = whole
    return process


def damage(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def mend(folder: Path, model: Path) -> None:
    shutil.copy(model / "model.safetensors", folder / "model.safetensors")


def state_of_worker(stack: Stack) -> str:
    rows = stack.query("SELECT state FROM inference_modelworker WHERE state <> 'stopped'")
    return rows[0][0] if rows else ""


def test_requests_are_answered_by_the_worker_that_has_the_model(
    start_stack: Callable[..., FaultyStack], tiny_model: Path
) -> None:
    # Long: a message that is left lying is not made good by a look into the database in this test.
    stack = start_stack(QUEUE_POLL_SECONDS=600)
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


def test_a_worker_whose_model_is_mended_loads_it_at_a_sighup_and_answers(
    start_stack: Callable[..., FaultyStack], tiny_model: Path
) -> None:
    stack = start_stack(with_worker=False)
    worker = start_broken_worker(stack, tiny_model)
    wait_for(lambda: state_of_worker(stack) == "failed", seconds=START_SECONDS)
    # As long as it is broken, trying again changes nothing, and the worker lives.
    os.kill(worker.pid, signal.SIGHUP)
    wait_for(lambda: worker.log.read_text().count("the model could not be loaded") == 2)
    wait_for(lambda: state_of_worker(stack) == "failed")
    with stack.client() as http:
        assert http.post("/v1/chat/completions", json=QUESTION | WHOLE).status_code == 503
        mend(stack.folder / tiny_model.name, tiny_model)
        os.kill(worker.pid, signal.SIGHUP)
        stack.wait_for_health("modelReady")
        for number in range(6):
            answer = http.post("/v1/chat/completions", json=QUESTION | WHOLE | {"session_id": f"n-{number}"})
            assert answer.status_code == 200
    assert worker.is_running()
    # With the model there, the signal does no harm.
    os.kill(worker.pid, signal.SIGHUP)
    wait_for(lambda: "the reload request is ignored: the model is loaded" in worker.log.read_text())
    assert state_of_worker(stack) == "ready"


def test_a_request_in_the_admin_does_the_same(start_stack: Callable[..., FaultyStack], tiny_model: Path) -> None:
    stack = start_stack(with_worker=False)
    start_broken_worker(stack, tiny_model)
    wait_for(lambda: state_of_worker(stack) == "failed", seconds=START_SECONDS)
    mend(stack.folder / tiny_model.name, tiny_model)
    # What its action writes; tests/db/test_worker_admin.py has the page.
    stack.query("UPDATE inference_modelworker SET try_again = true")
    stack.wait_for_health("modelReady")
    with stack.client() as http:
        assert http.post("/v1/chat/completions", json=QUESTION | WHOLE).status_code == 200
    assert stack.query("SELECT try_again FROM inference_modelworker") == [(False,)]
