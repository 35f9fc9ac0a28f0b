"""An engine in a process of its own, as a specification: it answers as an engine in this process does."""

from __future__ import annotations

import dataclasses
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inference.engine.errors import (
    EngineError,
    InvalidConstraint,
    InvalidSampling,
    PromptTooLong,
)
from inference.engine.handle import Handle
from inference.engine.start import start_engine
from inference.engine.types import Constraint, Delta, Finish, GenerationRequest, Video
from inference.engine_process import client
from inference.engine_process.client import EngineProcess
from tests.live.stack import ROOT
from tests.processes.engine_processes import (
    DEADLINE_SECONDS,
    Start,
    config,
    endless,
    first_delta,
    noise,
    request,
)
from tests.waiting import wait_for

SEEN = [{"type": "image"}, {"type": "video"}, {"type": "text", "text": "Apa ini?"}]


PICTURE, VIDEO = Image.fromarray(noise(90, 140, 3)), Video(noise(5, 64, 96, 3), [0.0, 0.4, 1.2, 2.0, 3.3])


KINDS = {
    "text": request(),
    "sampled, with likelihoods": request(temperature=1.0, seed=7, logprobs=2),
    "picture and video": request(
        SEEN,
        images=[Image.fromarray(noise(90, 140, 3))],
        videos=[Video(noise(5, 64, 96, 3), [0.0, 0.4, 1.2, 2.0, 3.3])],
    ),
    "held to a schema": dataclasses.replace(request(ignore_eos=False), constraint=Constraint("json_object")),
    "ended by a stop string": request(stop=("a",), ignore_eos=False),
    "resumed": dataclasses.replace(request(), resume_ids=(5, 9, 11)),
}


@pytest.fixture(scope="module")
def expected(tiny_model: Path) -> dict[str, list[Delta | Finish]]:
    """What an engine in this process says."""
    _, engine = start_engine(config(tiny_model), lambda progress: None)
    answers = {kind: list(engine.submit(asked)) for kind, asked in KINDS.items()}
    assert engine.stop(DEADLINE_SECONDS)
    return answers


@pytest.mark.parametrize("kind", list(KINDS))
def test_it_answers_as_an_engine_in_this_process(engine: EngineProcess, expected: Any, kind: str) -> None:
    handle = engine.submit(KINDS[kind])
    *deltas, finish = handle
    *expected_deltas, expected_finish = expected[kind]
    assert [(delta.token_ids, delta.text) for delta in deltas if isinstance(delta, Delta)] == [
        (delta.token_ids, delta.text) for delta in expected_deltas
    ]
    assert finish == expected_finish
    chosen = [one.chosen for delta in deltas if isinstance(delta, Delta) for one in delta.logprobs]
    wanted = [one.chosen for delta in expected_deltas for one in delta.logprobs]
    assert [(one.token_id, one.raw) for one in chosen] == [(one.token_id, one.raw) for one in wanted]
    assert np.allclose([one.logprob for one in chosen], [one.logprob for one in wanted], atol=1e-3)


def test_generations_run_together(engine: EngineProcess) -> None:
    handles = [engine.submit(endless(seed=seed)) for seed in range(3)]
    for handle in handles:
        first_delta(handle)
    assert engine.stats().running == 3
    for handle in handles:
        handle.cancel()
    wait_for(lambda: engine.stats().running == 0)


@pytest.mark.parametrize(
    ("asked", "kind", "said"),
    [
        (request("kata " * 5000), PromptTooLong, "the context holds 4096"),
        (request(allowed_token_ids=(10**6,)), InvalidSampling, "allowed_token_ids"),
        (
            dataclasses.replace(request(), constraint=Constraint("regex", "(")),
            InvalidConstraint,
            "regex",
        ),
    ],
)
def test_an_error_has_its_class_its_message_and_its_attributes(
    engine: EngineProcess, asked: GenerationRequest, kind: type[EngineError], said: str
) -> None:
    with pytest.raises(kind, match=said) as raised:
        list(engine.submit(asked))
    assert type(raised.value) is kind
    match raised.value:
        case PromptTooLong():
            assert (raised.value.limit, raised.value.prompt_tokens > 4096) == (4096, True)
        case InvalidSampling():
            assert raised.value.field == "allowed_token_ids"


def test_an_error_that_is_not_expected_brings_its_traceback(
    engine: EngineProcess, caplog: pytest.LogCaptureFixture
) -> None:
    no_text: Any = 5
    with pytest.raises(EngineError, match="could not be prepared") as raised:
        list(engine.submit(request(stop=(no_text,))))
    assert "Traceback" in str(raised.value.__cause__)
    # What the process logs is in the log of this one.
    wait_for(lambda: "request not prepared" in caplog.text)
    [record] = [record for record in caplog.records if record.message == "request not prepared"]
    assert (record.name, record.levelname) == ("inference.engine.engine", "ERROR")
    assert "Traceback" in caplog.text


def test_a_cancelled_generation_ends_at_once_and_gives_its_row_back(engine: EngineProcess) -> None:
    handle = engine.submit(endless())
    seen = len(first_delta(handle).token_ids)
    handle.cancel()
    *rest, finish = handle
    assert isinstance(finish, Finish)
    assert finish.reason == "cancelled"
    assert finish.prompt_tokens > 0
    assert finish.completion_tokens == seen + sum(len(delta.token_ids) for delta in rest if isinstance(delta, Delta))
    wait_for(lambda: engine.stats().running == 0)


def test_an_answer_that_cannot_be_taken_fails_alone(engine: EngineProcess) -> None:
    class BrokenReceiver:
        def __init__(self) -> None:
            self.end: queue.SimpleQueue[Finish | EngineError] = queue.SimpleQueue()

        def put(self, item: Delta | Finish | EngineError, /) -> None:
            if isinstance(item, Delta):
                raise ZeroDivisionError
            self.end.put(item)

    broken, sound = BrokenReceiver(), engine.submit(request())
    engine.submit(endless()).send_to(broken)
    assert isinstance(list(sound)[-1], Finish)
    end = broken.end.get(timeout=DEADLINE_SECONDS)
    assert isinstance(end, EngineError)
    assert isinstance(end.__cause__, ZeroDivisionError)
    wait_for(lambda: engine.stats().running == 0)


def test_only_new_generations_wait_for_a_process_that_does_not_read(start: Start) -> None:
    engine = start()
    handle = engine.submit(endless())
    first_delta(handle)
    os.kill(engine.pid, signal.SIGSTOP)
    picture = Image.fromarray(noise(1500, 1500, 3))
    submitted: list[Handle] = []

    def submit() -> None:
        submitted.append(engine.submit(request([{"type": "image"}], images=[picture])))

    waiting = [threading.Thread(target=submit) for _ in range(3)]
    for thread in waiting:
        thread.start()
    handle.cancel()
    assert isinstance(list(handle)[-1], Finish)
    assert engine.stats().max_batch_size == 4
    assert submitted == []
    os.kill(engine.pid, signal.SIGCONT)
    for thread in waiting:
        thread.join(DEADLINE_SECONDS)
    assert len(submitted) == 3
    assert isinstance(list(engine.submit(request()))[-1], Finish)


def test_a_worker_does_not_import_torch() -> None:
    code = (
        "import sys, django; django.setup()\n"
        "import inference.worker.embedded, inference.worker.celery_worker, inference.worker.runner\n"
        "import inference.backends.local, ocr.evaluation.readers\n"
        "print([name for name in ('torch', 'transformers', 'torchvision', 'accelerate') if name in sys.modules])"
    )
    env = os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


def is_at_rest(pid: int) -> bool:
    """Whether it computes nothing for a third of a second."""

    def processor_ticks() -> list[str]:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]

    before = processor_ticks()
    time.sleep(0.3)
    return before == processor_ticks()


def test_a_worker_that_does_not_read_for_a_while_misses_nothing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BUFFER_BYTES", 4096)
    engine = start()
    seen: list[Delta | Finish | EngineError] = []
    may_read, ended = threading.Event(), threading.Event()

    class SlowReceiver:
        def put(self, item: Delta | Finish | EngineError, /) -> None:
            assert may_read.wait(DEADLINE_SECONDS)  # on the thread that reads
            seen.append(item)
            if not isinstance(item, Delta):
                ended.set()

    engine.submit(request(max_tokens=1000, logprobs=20)).send_to(SlowReceiver())
    wait_for(lambda: is_at_rest(engine.pid))  # The model thread waits for room in the socket.
    may_read.set()
    assert ended.wait(DEADLINE_SECONDS)
    assert sum(len(item.token_ids) for item in seen if isinstance(item, Delta)) == 1000
