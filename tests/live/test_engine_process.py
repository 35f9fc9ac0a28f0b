"""The engine's process of an embedded server: it may end alone, and ends with the server."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.events import long_question, read_stream, text_of
from tests.live.stack import EmbeddedStack
from tests.scraped import parsed
from tests.waiting import wait_for

GREEDY = {"temperature": 0, "max_tokens": 600}


@pytest.fixture
def stack(tiny_model: Path, tmp_path: Path) -> Iterator[EmbeddedStack]:
    stack = EmbeddedStack(tmp_path, tiny_model, SESSION_LEASE_SECONDS=2)
    yield stack.start()
    stack.stop()


def engine_pids(stack: EmbeddedStack) -> list[int]:
    """Of the processes in which the model was loaded."""
    return [int(pid) for pid in re.findall(r"is ready on cpu in process (\d+)", stack.logs())]


def maps(pid: int) -> str:
    """Nothing when the process has ended."""
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_when_its_engine_is_killed_the_server_answers_on_and_the_stream_has_the_same_text(stack: EmbeddedStack) -> None:
    with stack.client() as http:
        expected = text_of(read_stream(http, long_question(**GREEDY)))
        texts: list[str] = []

        def read() -> None:
            with stack.client() as client:
                texts.append(text_of(read_stream(client, long_question(session_id="cut", **GREEDY))))

        reader = threading.Thread(target=read)
        reader.start()
        wait_for(lambda: stack.query("SELECT 1 FROM sessions_app_chatsession WHERE id = 'cut' AND next_index > 4"))
        os.kill(engine_pids(stack)[0], signal.SIGKILL)
        wait_for(lambda: http.get("/health").json()["modelReady"] is False)
        wait_for(lambda: http.get("/health").json()["modelReady"] is True)
        reader.join(60)
        metrics = parsed(http.get("/metrics").text)
    assert texts == [expected]
    assert stack.query("SELECT workers_lost FROM sessions_app_chatsession WHERE id = 'cut'") == [(1,)]
    assert len(engine_pids(stack)) == 2
    assert metrics["sambung:engine_losses_total"] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_engine_ends_with_the_server(stack: EmbeddedStack, number: int) -> None:
    [pid] = engine_pids(stack)
    assert maps(pid)
    os.kill(stack.processes["serve"].pid, number)
    wait_for(lambda: not maps(pid))


def test_only_the_engines_process_has_torch(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not a fork of a process that has it.
    monkeypatch.setattr(EmbeddedStack, "preloaded", None)
    stack = EmbeddedStack(tmp_path, tiny_model).start()
    try:
        [engine] = engine_pids(stack)
        assert "libtorch" in maps(engine)
        assert "libtorch" not in maps(stack.processes["serve"].pid)
    finally:
        stack.stop()
