"""How the process of an engine begins and ends, as a specification."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from inference.engine.errors import (
    EngineLost,
    EngineStopped,
    LoadError,
)
from inference.engine.types import Finish
from inference.engine_process import client
from inference.engine_process.client import EngineProcess
from tests.live.stack import ROOT
from tests.processes.engine_processes import (
    DEADLINE_SECONDS,
    Start,
    config,
    endless,
    first_delta,
    is_running,
    request,
)
from tests.waiting import wait_for


def test_loading_reports_its_progress_and_then_facts(tiny_model: Path) -> None:
    stages: list[str] = []
    engine = EngineProcess(config(tiny_model, rows=3), lambda progress: stages.append(progress.stage))
    try:
        facts, stats = engine.load(), engine.stats()
        assert list(dict.fromkeys(stages)) == ["loading the processor", "loading the weights", "ready"]
        assert (facts.dtype, facts.quantization, facts.device, facts.max_batch_size) == ("float32", "none", "cpu", 3)
        assert facts.vision is not None
        # PyTorch is in its memory, and loading took time there.
        assert (stats.process_bytes > 2**27, stats.process_cpu_seconds > 0.5) == (True, True)
        assert (facts.vision.context_tokens, stats.generated_tokens) == (4096, 0)
    finally:
        assert engine.stop(DEADLINE_SECONDS)


def test_a_model_that_cannot_be_loaded_is_an_error_of_the_start() -> None:
    with pytest.raises(LoadError, match="no-such-model"):
        EngineProcess(config("./no-such-model"), lambda progress: None).load()


def test_one_that_is_killed_while_it_loads_says_how_it_ended(tiny_model: Path) -> None:
    def kill(progress: object) -> None:
        os.kill(loading.pid, signal.SIGKILL)

    loading = EngineProcess(config(tiny_model), kill)
    with pytest.raises(EngineLost, match="has ended: SIGKILL, which Linux sends when memory runs out"):
        loading.load()


def test_one_that_is_stopped_while_it_loads_ends_at_once(tiny_model: Path) -> None:
    engine = EngineProcess(config(tiny_model), lambda progress: None)
    assert engine.stop(DEADLINE_SECONDS)
    with pytest.raises(EngineStopped):
        engine.load()
    assert not is_running(engine.pid)


def test_signals_for_the_worker_do_not_end_one_that_begins(tiny_model: Path) -> None:
    engine = EngineProcess(config(tiny_model), lambda progress: None)
    wait_for(lambda: ignores(engine.pid, signal.SIGTERM))
    assert "libtorch" not in Path(f"/proc/{engine.pid}/maps").read_text()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(engine.pid, number)
    engine.load()
    assert engine.stop(DEADLINE_SECONDS)


def test_signals_for_the_worker_do_not_end_it(engine: EngineProcess) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(engine.pid, number)
    assert isinstance(list(engine.submit(request()))[-1], Finish)


def ignores(pid: int, number: signal.Signals) -> bool:
    mask = int(Path(f"/proc/{pid}/status").read_text().split("SigIgn:")[1].split()[0], 16)
    return bool(mask & 1 << (number - 1))


def test_it_is_not_given_the_variables_that_are_hidden(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_KEYS", "a secret")
    monkeypatch.setenv("HF_HOME", "/known/to/libraries")
    engine = EngineProcess(config(tiny_model), lambda progress: None, hidden={"DATA_KEYS"})
    environment = Path(f"/proc/{engine.pid}/environ").read_text()
    assert engine.stop(DEADLINE_SECONDS)
    assert ("DATA_KEYS" in environment, "HF_HOME" in environment) == (False, True)


def test_modules_in_the_current_folder_replace_no_others(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    engine = EngineProcess(config(tiny_model), lambda progress: None)
    engine.load()
    assert engine.stop(DEADLINE_SECONDS)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_when_it_ends_unexpectedly_the_listener_knows_first_and_every_handle_is_lost(
    start: Start, number: signal.Signals
) -> None:
    reasons: queue.SimpleQueue[str] = queue.SimpleQueue()
    may_go_on = threading.Event()

    def lost(reason: str) -> None:
        reasons.put(reason)
        may_go_on.wait(DEADLINE_SECONDS)

    engine = start(lost)
    handles = [engine.submit(endless()), engine.submit(endless(seed=1))]
    first_delta(handles[0])
    os.kill(engine.pid, number)
    assert number.name in reasons.get(timeout=DEADLINE_SECONDS)
    assert not any(handle.closed for handle in handles)
    may_go_on.set()
    for handle in handles:
        with pytest.raises(EngineLost):
            list(handle)
    with pytest.raises(EngineStopped):
        engine.submit(request())
    assert (engine.stats().max_batch_size, engine.stats().running) == (4, 0)
    assert engine.stop(DEADLINE_SECONDS)


BROKEN = """
import sys
from inference.engine.batch import Batch
from inference.engine_process.child import serve
Batch.decode = lambda batch: 1 / 0
serve(int(sys.argv[1]))
"""


def test_when_the_model_thread_fails_the_process_ends_and_every_handle_is_lost(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start_broken(descriptor: int, hidden: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", BROKEN, str(descriptor)], cwd=ROOT, pass_fds=[descriptor])

    monkeypatch.setattr(client, "start_child", start_broken)
    reasons: list[str] = []
    engine = EngineProcess(config(tiny_model), lambda progress: None, reasons.append)
    engine.load()
    handle = engine.submit(request())
    with pytest.raises(EngineLost):
        list(handle)
    assert reasons == ["The engine's process has ended: exit status 1."]
    assert "ZeroDivisionError" in caplog.text
    assert engine.stop(DEADLINE_SECONDS)


def test_messages_that_cannot_be_understood_end_the_process_and_every_handle(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reasons: list[str] = []
    engine = start(reasons.append)
    monkeypatch.setattr(engine, "_take", lambda message: 1 / 0)
    handle = engine.submit(endless())
    with pytest.raises(EngineLost):
        list(handle)
    assert reasons == [
        "The engine's process has ended: it was killed, because the messages between it and the worker failed; "
        "the log has the details."
    ]
    assert "cannot be read" in caplog.text
    assert not is_running(engine.pid)


def test_a_stop_ends_all_handles_and_the_process_and_is_no_loss(start: Start) -> None:
    reasons: list[str] = []
    engine = start(reasons.append)
    handle = engine.submit(endless())
    first_delta(handle)
    assert engine.stop(DEADLINE_SECONDS)
    with pytest.raises(EngineStopped):
        list(handle)
    with pytest.raises(EngineStopped):
        engine.submit(request())
    assert engine.stop(DEADLINE_SECONDS)
    assert (reasons, is_running(engine.pid)) == ([], False)


def test_one_that_does_not_end_in_time_is_killed(start: Start) -> None:
    engine = start()
    os.kill(engine.pid, signal.SIGSTOP)
    assert not engine.stop(0.1)
    wait_for(lambda: not is_running(engine.pid))


WORKER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.processes.engine_processes import config, endless
from inference.engine_process.client import EngineProcess
engine = EngineProcess(config(sys.argv[2]), lambda progress: None)
engine.load()
handle = engine.submit(endless())
next(handle)
print(engine.pid, flush=True)
time.sleep(600)
"""


def test_it_ends_with_its_worker_however_that_ends(tiny_model: Path) -> None:
    command = [sys.executable, "-c", WORKER, str(ROOT), str(tiny_model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        pid = int(worker.stdout.readline())
        assert is_running(pid)
        worker.kill()
        wait_for(lambda: not is_running(pid))


SERVED = """
import socket, sys, threading
from multiprocessing.connection import Connection
sys.path.insert(0, sys.argv[1])
from inference.engine_process.child import EngineServer
from inference.engine_process.messages import Ready, Start, receive, send
from tests.processes.engine_processes import config
ours, theirs = socket.socketpair()
threading.Thread(target=EngineServer(Connection(theirs.detach())).serve, daemon=True).start()
worker = Connection(ours.detach())
send(worker, [Start(config(sys.argv[2]), {})])
while not any(isinstance(message, Ready) for message in receive(worker)):
    pass
for thread in threading.enumerate():
    if thread.name == "model-loading":
        thread.join(60)
print(sorted(thread.name for thread in threading.enumerate() if "load" in thread.name))
"""


def test_the_model_is_loaded_in_a_thread_that_ends(tiny_model: Path) -> None:
    """Its OpenMP helpers would compete with those of the model thread."""
    command = [sys.executable, "-c", SERVED, str(ROOT), str(tiny_model)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS)
    assert done.stdout == "[]\n", done.stderr
