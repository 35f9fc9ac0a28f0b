"""The thread that has the model loaded, as a specification."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection
from typing import Any

import pytest

from inference.backends import local
from inference.backends.local import LocalEngine, LocalSource
from inference.engine.config import EngineConfig
from inference.engine.errors import EngineStopped, LoadError
from inference.engine.stats import ModelFacts
from inference.metrics import engine_losses
from sessions_app.history import counting

DEADLINE_SECONDS = 20.0
#: what a load does: raise an error, or return
Load = Callable[[], None]


class Worker:
    """What the source tells the worker."""

    def __init__(self) -> None:
        self.told: queue.SimpleQueue[tuple[str, object]] = queue.SimpleQueue()

    def engine_pending(self, progress: str) -> None:
        self.told.put(("pending", progress))

    def engine_ready(self, engine: Any) -> None:
        self.told.put(("ready", engine))

    def engine_failed(self, reason: str) -> None:
        self.told.put(("failed", reason))

    def next(self) -> tuple[str, object]:
        return self.told.get(timeout=DEADLINE_SECONDS)


class Pool:
    """In place of the processes that decode pictures."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")


class Engines:
    """In place of the processes: what loading does, and those that were loaded."""

    def __init__(self) -> None:
        self.load: Load = lambda: None
        self.configs: list[EngineConfig] = []
        self.stopped = threading.Event()
        self.pool = Pool()
        #: loses the engine that was loaded last
        self.lose: Callable[[str], None]

    def start(
        self, config: EngineConfig, on_progress: Any, on_lost: Callable[[str], None], *, hidden: Collection[str]
    ) -> Any:
        self.configs.append(config)
        self.hidden = hidden
        return _Process(self, on_lost)


class _Process:
    pid = 1

    def __init__(self, engines: Engines, on_lost: Callable[[str], None]) -> None:
        self._engines = engines
        self._on_lost = on_lost

    def load(self) -> ModelFacts:
        self._engines.load()
        self._engines.lose = self._on_lost
        self.facts = ModelFacts("r", "float32", "none", "g", "cpu", None, max_batch_size=7, max_running_tokens=100)
        return self.facts

    def stop(self, timeout_seconds: float) -> bool:
        self._engines.stopped.set()
        return True


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Engines:
    engines = Engines()
    monkeypatch.setattr(local, "EngineProcess", engines.start)
    monkeypatch.setattr(local, "decoding_pool", lambda: engines.pool)
    monkeypatch.setattr(local, "PAUSE_SECONDS", 0.01)
    return engines


@pytest.fixture
def started(engines: Engines) -> tuple[Worker, LocalSource]:
    worker, source = Worker(), LocalSource()
    source.start(worker)
    assert worker.next() == ("pending", "")
    return worker, source


def fail() -> None:
    raise LoadError("there is no such model")


def test_a_model_that_could_not_be_loaded_is_loaded_again_on_request(engines: Engines) -> None:
    engines.load = fail
    worker, source = Worker(), LocalSource()
    source.start(worker)
    assert [worker.next(), worker.next()] == [("pending", ""), ("failed", "there is no such model")]
    source.reload()
    assert [worker.next(), worker.next()] == [("pending", ""), ("failed", "there is no such model")]
    engines.load = lambda: None
    source.reload()
    assert worker.next() == ("pending", "")
    kind, engine = worker.next()
    assert kind == "ready"
    assert isinstance(engine, LocalEngine)


def test_a_loaded_model_is_not_loaded_again_on_request(
    engines: Engines, started: tuple[Worker, LocalSource], caplog: pytest.LogCaptureFixture
) -> None:
    worker, source = started
    assert worker.next()[0] == "ready"
    caplog.set_level("INFO", logger="inference")
    source.reload()
    # When this has been dealt with, the request has been too.
    engines.lose("it has ended")
    assert worker.next() == worker.next() == ("pending", "it has ended")
    assert worker.next()[0] == "ready"
    assert "the reload request is ignored" in caplog.text


def test_an_engine_that_is_lost_is_loaded_again(engines: Engines, started: tuple[Worker, LocalSource]) -> None:
    worker, _ = started
    first, losses = worker.next(), counting.total(engine_losses)
    engines.lose("The engine's process has ended: SIGSEGV.")
    # By the thread that saw it, and by the one that loads.
    assert worker.next() == worker.next() == ("pending", "The engine's process has ended: SIGSEGV.")
    second = worker.next()
    assert (first[0], second[0], first[1] is second[1]) == ("ready", "ready", False)
    assert counting.total(engine_losses) == losses + 1


def test_a_lost_engine_that_cannot_be_replaced_at_once_is_tried_again_before_sessions_are_refused(
    engines: Engines, started: tuple[Worker, LocalSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, source = started
    assert worker.next()[0] == "ready"
    tries: queue.SimpleQueue[None] = queue.SimpleQueue()

    def fail_and_count() -> None:
        tries.put(None)
        fail()

    engines.load = fail_and_count
    engines.lose("it has ended")
    assert worker.next()[0] == "pending"
    for _ in range(3):
        tries.get(timeout=DEADLINE_SECONDS)
    monkeypatch.setattr("time.monotonic", lambda: 1e12)  # The time for that is over.
    told = [worker.next()]
    while told[-1][0] == "pending":
        told.append(worker.next())
    assert ("pending", "there is no such model") in told
    assert told[-1] == ("failed", "there is no such model")
    engines.load = lambda: None
    source.reload()
    assert [worker.next()[0], worker.next()[0]] == ["pending", "ready"]


def test_only_one_that_ended_soon_after_its_load_is_replaced_after_a_pause(
    engines: Engines, started: tuple[Worker, LocalSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, source = started
    pauses: list[float] = []
    monkeypatch.setattr(source, "_pause", pauses.append)
    assert worker.next()[0] == "ready"
    engines.lose("it has ended")
    assert [worker.next()[0], worker.next()[0], worker.next()[0]] == ["pending", "pending", "ready"]
    monkeypatch.setattr(local, "SOUND_SECONDS", 0.0)
    engines.lose("it has ended")
    assert [worker.next()[0], worker.next()[0], worker.next()[0]] == ["pending", "pending", "ready"]
    assert pauses == [local.PAUSE_SECONDS, 0.0]


def test_an_engine_that_is_lost_before_the_worker_knows_of_it_is_replaced(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told_at_once(process: _Process) -> ModelFacts:
        facts = load(process)
        if len(engines.configs) == 1:
            engines.lose("it has ended")
        return facts

    load = _Process.load
    monkeypatch.setattr(_Process, "load", told_at_once)
    worker, source = Worker(), LocalSource()
    source.start(worker)
    kinds = [worker.next()[0] for _ in range(5)]
    assert kinds == ["pending", "pending", "ready", "pending", "ready"]


def test_the_engine_that_replaces_one_has_as_many_rows_because_the_slots_stay(
    engines: Engines, started: tuple[Worker, LocalSource], settings: Any
) -> None:
    worker, _ = started
    assert worker.next()[0] == "ready"
    engines.lose("it has ended")
    assert [worker.next()[0], worker.next()[0], worker.next()[0]] == ["pending", "pending", "ready"]
    assert [config.rows for config in engines.configs] == [None, 7 - settings.RESERVED_SLOTS]


def test_secrets_are_hidden_from_the_engine(engines: Engines, started: tuple[Worker, LocalSource]) -> None:
    assert {"SECRET_KEY", "DATA_KEYS", "DATABASE_URL", "API_KEYS"} <= set(engines.hidden)


def test_a_stop_ends_an_engine_that_is_being_loaded(engines: Engines) -> None:
    begun = threading.Event()

    def load_until_stopped() -> None:
        begun.set()
        assert engines.stopped.wait(DEADLINE_SECONDS)
        raise EngineStopped

    engines.load = load_until_stopped
    worker, source = Worker(), LocalSource()
    source.start(worker)
    assert begun.wait(DEADLINE_SECONDS)
    assert source.stop(DEADLINE_SECONDS)
    source._thread.join(DEADLINE_SECONDS)
    assert not source.is_alive()
    assert worker.next() == ("pending", "")
    assert worker.told.empty()


def test_the_processes_that_decode_pictures_are_stopped_once(
    engines: Engines, started: tuple[Worker, LocalSource]
) -> None:
    worker, source = started
    assert worker.next()[0] == "ready"
    engines.lose("it has ended")
    assert [worker.next()[0], worker.next()[0], worker.next()[0]] == ["pending", "pending", "ready"]
    assert source.stop(DEADLINE_SECONDS)
    assert source.stop(DEADLINE_SECONDS)
    assert engines.pool.calls == ["start", "stop"]


@pytest.mark.parametrize("load", [lambda: None, fail], ids=["loaded", "failed"])
def test_a_stop_ends_the_thread_whatever_it_waits_for_and_is_no_reload_request(
    engines: Engines, load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="inference")
    engines.load = load
    worker, source = Worker(), LocalSource()
    source.start(worker)
    assert worker.next() == ("pending", "")
    worker.next()
    assert source.stop(DEADLINE_SECONDS)
    source._thread.join(DEADLINE_SECONDS)
    assert not source.is_alive()
    assert worker.told.empty()
    assert "reload request" not in caplog.text
    assert "loading the model again" not in caplog.text


def test_after_a_stop_no_engine_is_started(engines: Engines) -> None:
    source = LocalSource()
    assert source.stop(DEADLINE_SECONDS)
    source.start(Worker())
    source._thread.join(DEADLINE_SECONDS)
    assert (source.is_alive(), engines.configs) == (False, [])


def test_an_unexpected_error_while_loading_is_a_failure_that_says_where_to_look(engines: Engines) -> None:
    def break_down() -> None:
        raise ZeroDivisionError

    engines.load = break_down
    worker, source = Worker(), LocalSource()
    source.start(worker)
    assert [worker.next()[0], worker.next()] == [
        "pending",
        ("failed", "an unexpected error; the log of the worker has the details"),
    ]
    assert source.is_alive()


def test_an_error_of_the_worker_ends_the_loader_which_the_worker_then_sees(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: ended.append(args.exc_type))
    monkeypatch.setattr(Worker, "engine_ready", lambda worker, engine: 1 / 0)
    source = LocalSource()
    source.start(Worker())
    source._thread.join(DEADLINE_SECONDS)
    assert not source.is_alive()
    assert ended == [ZeroDivisionError]
