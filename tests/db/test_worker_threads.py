"""A worker stops when a thread ends that is not its own: the history's, the one that loads the model, another app's."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

import pytest

from inference.backends.local import LocalSource
from inference.worker import side_threads
from inference.worker.lifecycle import Worker
from ocr.callbacks.courier import Courier
from sessions_app.history.writer import HistoryWriter

pytestmark = pytest.mark.django_db(transaction=True)

DEADLINE_SECONDS = 20.0


class NoProcesses:
    """In place of those that decode pictures."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


@pytest.fixture
def signalled(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when the worker sends its process the signal to stop."""
    event = threading.Event()
    monkeypatch.setattr(side_threads, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(os, "kill", lambda pid, signum: event.set())
    return event


@pytest.fixture
def end(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """The threads do nothing until this ends the one with the given name."""
    ends = {name: threading.Event() for name in ("history", "model-loader", "callbacks")}
    monkeypatch.setattr("inference.backends.local.decoding_pool", NoProcesses)
    monkeypatch.setattr(HistoryWriter, "run", lambda thread: ends["history"].wait(DEADLINE_SECONDS))
    monkeypatch.setattr(Courier, "run", lambda thread: ends["callbacks"].wait(DEADLINE_SECONDS))
    monkeypatch.setattr(LocalSource, "_run", lambda source: ends["model-loader"].wait(DEADLINE_SECONDS))
    yield lambda name: ends[name].set()
    for event in ends.values():
        event.set()


@pytest.mark.parametrize("name", ["history", "model-loader", "callbacks"])
def test_a_worker_stops_when_this_thread_ends(
    name: str, end: Callable[[str], None], signalled: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker()
    worker.start(None, lambda slot, limit: [], lambda session: None)
    try:
        assert not signalled.is_set()
        end(name)
        assert signalled.wait(DEADLINE_SECONDS)
    finally:
        worker.drain()
        end("history")
        end("callbacks")
        worker.stop()
    assert worker.has_failed
    assert f"this worker stops, because these threads have ended: {name}" in caplog.text
