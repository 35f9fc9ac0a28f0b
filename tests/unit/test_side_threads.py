"""A worker's side threads are watched: the worker learns of it when one of them ends by itself."""

from __future__ import annotations

import threading

import pytest

from inference.worker import side_threads
from inference.worker.side_threads import SideThreads

DEADLINE_SECONDS = 20.0


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_threads, "POLL_SECONDS", 0.01)


def until_set(event: threading.Event, name: str) -> threading.Thread:
    return threading.Thread(target=lambda: event.wait(DEADLINE_SECONDS), name=name, daemon=True)


def test_the_end_of_one_thread_is_reported_once_and_by_its_name(caplog: pytest.LogCaptureFixture) -> None:
    may_end, stopping, reported = threading.Event(), threading.Event(), threading.Event()
    calls: list[str] = []

    def on_end() -> None:
        calls.append("ended")
        reported.set()

    going_on = until_set(stopping, "sweeper")
    watch = SideThreads([until_set(may_end, "heartbeat"), going_on], stopping=stopping, on_end=on_end)
    watch.start()
    assert calls == []
    may_end.set()
    assert reported.wait(DEADLINE_SECONDS)
    watch.join(DEADLINE_SECONDS)
    assert not watch.is_alive()
    assert calls == ["ended"]
    assert [record.getMessage().rpartition(" ")[2] for record in caplog.records] == ["heartbeat"]
    assert caplog.records[0].levelname == "CRITICAL"
    stopping.set()
    going_on.join(DEADLINE_SECONDS)


def test_one_that_is_added_later_is_watched_too(caplog: pytest.LogCaptureFixture) -> None:
    may_end, stopping, reported = threading.Event(), threading.Event(), threading.Event()
    watch = SideThreads([], stopping=stopping, on_end=reported.set)
    watch.start()
    engine = until_set(may_end, "queue-watch")
    engine.start()
    watch.watch(engine)
    may_end.set()
    assert reported.wait(DEADLINE_SECONDS)
    watch.join(DEADLINE_SECONDS)
    assert "queue-watch" in caplog.text


def test_threads_that_end_after_the_stop_has_begun_are_no_loss(caplog: pytest.LogCaptureFixture) -> None:
    stopping = threading.Event()
    calls: list[str] = []
    thread = until_set(stopping, "heartbeat")
    watch = SideThreads([thread], stopping=stopping, on_end=lambda: calls.append("ended"))
    watch.start()
    stopping.set()
    thread.join(DEADLINE_SECONDS)
    watch.join(DEADLINE_SECONDS)
    assert not watch.is_alive()
    assert calls == []
    assert caplog.records == []
