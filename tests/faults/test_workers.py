"""Workers that die, freeze, or are stopped: another goes on with the same text."""

from __future__ import annotations

import base64
import concurrent.futures
import json
import os
import re
import signal
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent

from inference.worker.stopping import NOT_DONE
from tests.db.ktp_cards import specimen
from tests.faults.faulty_stack import FaultyStack
from tests.faults.reader import Reader
from tests.foreign import FOREIGN
from tests.live.events import long_question, read_stream, text_of
from tests.live.stack import Stack
from tests.media_samples import image_bytes
from tests.waiting import wait_for

pytestmark = [pytest.mark.redis, pytest.mark.postgresql]

IMAGE = f"data:image/png;base64,{base64.b64encode(image_bytes((96, 64), color='blue')).decode()}"
SEEING = [
    {
        "role": "user",
        "content": [{"type": "text", "text": "Apa ini?"}, {"type": "image_url", "image_url": {"url": IMAGE}}],
    }
]
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 900}
SAMPLED: dict[str, Any] = {"temperature": 1, "seed": 11, "max_tokens": 900}
#: JSON of some hundred tokens
HELD: dict[str, Any] = {
    "temperature": 1,
    "seed": 13,
    "ignore_eos": False,
    "guided_json": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"kota": {"type": "string", "minLength": 40, "maxLength": 60}, "nomor": {"type": "integer"}},
            "required": ["kota", "nomor"],
            "additionalProperties": False,
        },
        "minItems": 30,
    },
}
LOOKING: dict[str, Any] = {"temperature": 1, "seed": 12, "max_tokens": 900, "messages": SEEING}


def undisturbed(stack: Stack, fields: dict[str, Any]) -> str:
    with stack.client() as http:
        return text_of(read_stream(http, long_question(**fields)))


def has_chunks(stack: Stack, session_id: str, count: int = 4) -> bool:
    sql = "SELECT 1 FROM sessions_app_chatsession WHERE id = ? AND next_index > ?"
    return bool(stack.query(sql, session_id, count))


def one(stack: Stack, sql: str, *parameters: object) -> Any:
    return stack.query(sql, *parameters)[0][0]


def engine_pids(log: str) -> list[int]:
    """Of the processes in which a worker's model was loaded."""
    return [int(pid) for pid in re.findall(r"is ready on cpu in process (\d+)", log)]


def test_when_its_engine_is_killed_a_worker_loads_the_model_again_and_the_texts_are_the_same(
    stack: FaultyStack,
) -> None:
    kinds = {"greedy": GREEDY, "sampled": SAMPLED, "looking": LOOKING, "held": HELD}
    expected = {name: undisturbed(stack, fields) for name, fields in kinds.items()}
    readers = {
        name: Reader([stack.base_url], long_question(session_id=name, **fields)) for name, fields in kinds.items()
    }
    wait_for(lambda: all(has_chunks(stack, name) for name in kinds))
    worker = stack.processes["worker"]
    [first] = engine_pids(worker.log.read_text())
    os.kill(first, signal.SIGKILL)
    assert {name: reader.text() for name, reader in readers.items()} == expected
    assert worker.is_running()
    assert one(stack, "SELECT sum(workers_lost) FROM sessions_app_chatsession") == len(kinds)
    assert len(engine_pids(worker.log.read_text())) == 2
    assert "The engine's process has ended: SIGKILL, which Linux sends when memory runs out." in worker.log.read_text()


def test_a_killed_workers_sessions_go_on_with_the_same_texts(stack: FaultyStack) -> None:
    kinds = {"greedy": GREEDY, "sampled": SAMPLED, "looking": LOOKING, "held": HELD}
    expected = {name: undisturbed(stack, fields) for name, fields in kinds.items()}
    readers = {
        name: Reader([stack.base_url], long_question(session_id=name, **fields)) for name, fields in kinds.items()
    }
    wait_for(lambda: all(has_chunks(stack, name) for name in kinds))
    stack.processes.pop("worker").kill()
    stack.start_worker("second")
    assert {name: reader.text() for name, reader in readers.items()} == expected
    # The clients' streams only paused.
    assert [reader.came_back for reader in readers.values()] == [0] * len(kinds)
    assert stack.query("SELECT DISTINCT attempt FROM sessions_app_chatsession WHERE id IN ('greedy', 'looking')") == [
        (2,)
    ]


def texts_by_choice(events: list[ServerSentEvent]) -> dict[int, str]:
    texts: dict[int, str] = {}
    for event in events:
        for choice in [] if event.data == "[DONE]" else json.loads(event.data)["choices"]:
            texts[choice["index"]] = texts.get(choice["index"], "") + (choice["delta"].get("content") or "")
    return texts


def test_every_answer_of_a_killed_workers_session_goes_on_with_the_same_text(stack: FaultyStack) -> None:
    fields: dict[str, Any] = {**SAMPLED, "n": 3, "presence_penalty": 0.5, "frequency_penalty": 0.1, "logprobs": True}
    with stack.client() as http:
        expected = texts_by_choice(read_stream(http, long_question(**fields)))
    reader = Reader([stack.base_url], long_question(session_id="several", **fields))
    wait_for(lambda: has_chunks(stack, "several", 20))
    stack.processes.pop("worker").kill()
    stack.start_worker("second")
    events = reader.wait()
    assert texts_by_choice(events) == expected
    assert len(set(expected.values())) == 3
    assert one(stack, "SELECT attempt FROM sessions_app_chatsession WHERE id = 'several'") == 2
    usage = json.loads(events[-2].data)["usage"]
    assert usage["completion_tokens"] == 3 * 900
    told = [c["logprobs"] for e in events[:-1] for c in json.loads(e.data)["choices"] if c["logprobs"]]
    assert sum(len(logprobs["content"]) for logprobs in told) == 3 * 900


def test_a_worker_that_was_frozen_past_its_lease_writes_nothing_afterwards(stack: FaultyStack) -> None:
    expected = undisturbed(stack, SAMPLED)
    frozen = stack.processes["worker"]
    reader = Reader([stack.base_url], long_question(session_id="frozen", **SAMPLED))
    wait_for(lambda: has_chunks(stack, "frozen"))
    os.kill(frozen.pid, signal.SIGSTOP)
    try:
        stack.start_worker("second")
        wait_for(lambda: one(stack, "SELECT attempt FROM sessions_app_chatsession WHERE id = 'frozen'") == 2)
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    assert reader.text() == expected
    wait_for(lambda: "session fro…: attempt 1 is fenced" in frozen.log.read_text())
    # Its runs are over and it is a worker like any other again.
    assert undisturbed(stack, SAMPLED) == expected


def test_a_stopped_worker_hands_over_at_once_and_not_when_its_lease_ends(
    start_stack: Callable[..., FaultyStack],
) -> None:
    stack = start_stack(SESSION_LEASE_SECONDS=600)
    stack.start_worker("second")
    expected = undisturbed(stack, SAMPLED)
    wait_for(lambda: len(stack.query("SELECT 1 FROM inference_modelworker WHERE state = 'ready'")) == 2)
    reader = Reader([stack.base_url], long_question(session_id="handed", **SAMPLED))
    wait_for(lambda: has_chunks(stack, "handed"))
    holder = one(stack, "SELECT worker FROM sessions_app_chatsession WHERE id = 'handed'")
    [name] = [name for name, process in stack.processes.items() if f":{process.pid}:" in holder]
    stack.processes.pop(name).stop()
    assert reader.text() == expected
    assert one(stack, "SELECT worker FROM sessions_app_chatsession WHERE id = 'handed'") != holder


def test_a_worker_starts_answers_and_stops_whatever_else_is_in_the_environment(
    start_stack: Callable[..., FaultyStack],
) -> None:
    stack = start_stack(**FOREIGN)
    assert undisturbed(stack, SAMPLED)
    worker = stack.processes.pop("worker")
    assert worker.stop() == 0
    assert one(stack, "SELECT count(*) FROM inference_modelworker WHERE state = 'stopped'") == 1


@pytest.mark.parametrize("away", ["broker", "database"])
def test_a_worker_that_is_stopped_while_something_is_away_ends_within_its_time(
    start_stack: Callable[..., FaultyStack], away: str
) -> None:
    stack = start_stack(WORKER_STOP_SECONDS=2, SESSION_LEASE_SECONDS=2)
    expected = undisturbed(stack, SAMPLED)
    reader = Reader([stack.base_url], long_question(session_id="stopped", **SAMPLED))
    wait_for(lambda: has_chunks(stack, "stopped"))
    proxy = getattr(stack, away)
    proxy.cut()
    # Process.stop fails the test when the worker does not end; its own limit is that of WORKER_STOP_SECONDS.
    assert stack.processes.pop("worker").stop() in (0, NOT_DONE)
    proxy.mend()
    stack.start_worker("second")
    assert reader.text() == expected


def test_a_request_that_takes_every_worker_down_fails_and_keeps_what_it_has(
    start_stack: Callable[..., FaultyStack],
) -> None:
    stack = start_stack(SESSION_LEASE_SECONDS=1, SESSION_MAX_ATTEMPTS=2)
    reader = Reader([stack.base_url], long_question(session_id="poison", max_tokens=3500))
    for attempt in (1, 2):
        wait_for(
            lambda attempt=attempt: stack.query(  # type: ignore[misc]
                "SELECT 1 FROM sessions_app_chatsession WHERE id = 'poison' AND attempt = ? AND state = 'running'",
                attempt,
            )
        )
        wait_for(lambda attempt=attempt: has_chunks(stack, "poison", 2 * attempt))  # type: ignore[misc]
        stack.processes.popitem()[1].kill()
        stack.start_worker(f"after-{attempt}")
    events = reader.wait()
    assert '"code":"worker_lost"' in events[-1].data
    assert text_of(events[:-1])
    with stack.client() as http:
        failed = http.post("/v1/chat/completions", json={"stream": False}, headers={"Last-Event-ID": "poison:0"})
    assert failed.status_code == httpx.codes.INTERNAL_SERVER_ERROR
    assert failed.json()["error"]["code"] == "worker_lost"


def test_being_stopped_does_not_count_as_being_lost(start_stack: Callable[..., FaultyStack]) -> None:
    stack = start_stack(SESSION_MAX_ATTEMPTS=1)
    expected = undisturbed(stack, SAMPLED)
    reader = Reader([stack.base_url], long_question(session_id="moved", **SAMPLED))
    for attempt in (1, 2):
        wait_for(
            lambda attempt=attempt: stack.query(  # type: ignore[misc]
                "SELECT 1 FROM sessions_app_chatsession WHERE id = 'moved' AND attempt = ? AND next_index > ?",
                attempt,
                2 * attempt,
            )
        )
        stack.processes.popitem()[1].stop()
        stack.start_worker(f"after-{attempt}")
    assert reader.text() == expected


def test_a_card_that_is_being_read_goes_on_after_its_worker_was_killed_and_is_encrypted_all_along(
    start_stack: Callable[..., FaultyStack],
) -> None:
    stack = start_stack(SESSION_LEASE_SECONDS=2, OCR_MAX_TOKENS=300, OCR_TIMEOUT_SECONDS=300, NO_WORKER_SECONDS=300)
    picture = specimen()

    def read() -> dict[str, Any]:
        answered = httpx.post(f"{stack.base_url}/ktp-ocr/", files={"image": picture}, timeout=320)
        answer: dict[str, Any] = answered.raise_for_status().json()
        return {name: value for name, value in answer.items() if name != "meta"}

    expected = read()
    stack.query("UPDATE sessions_app_chatsession SET worker = 'before'")
    with concurrent.futures.ThreadPoolExecutor() as clients:
        reading = clients.submit(read)
        sql = "SELECT 1 FROM sessions_app_chatsession WHERE worker <> 'before' AND state = 'running' AND next_index > 3"
        wait_for(lambda: stack.query(sql))
        stack.processes.pop("worker").kill()
        [(legible,)] = stack.query(
            "SELECT count(*) FROM sessions_app_chunk WHERE delta->>'type' = 'text'"
            " AND (delta->>'text' IS NOT NULL OR left(token_ids->>0, 7) <> 'sealed:')"
        )
        stack.start_worker("second")
        assert reading.result(timeout=300) == expected
    assert legible == 0
    assert stack.query("SELECT max(attempt) FROM sessions_app_chatsession") == [(2,)]
