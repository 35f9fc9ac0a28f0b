"""The processes that are disturbed, and the small model that they run."""

from __future__ import annotations

import contextlib
from pathlib import Path

import httpx
import psutil

from inference.tiny_models.vision import build_tiny_model, make_model, make_tokenizer
from tests.faults.faulty_stack import FaultyStack
from tests.faults.proxy import Proxy
from tests.live.stack import Process, free_port
from tests.waiting import wait_for

LEASE_SECONDS = 2.0
SETTINGS: dict[str, object] = {
    "SESSION_LEASE_SECONDS": LEASE_SECONDS,
    # The small model is fast: with shorter waits an answer has about as many events as one of a large model.
    "CHUNK_COMMIT_SECONDS": 0.005,
    # Faults hit any running session, so a session must not fail for losing its worker often.
    "SESSION_MAX_ATTEMPTS": 1000,
    "WORKER_HEARTBEAT_SECONDS": 1,
    "KEEPALIVE_SECONDS": 2,
    # The log is compared with what the clients saw, at the very end.
    "SESSIONS_TTL_SECONDS": 86_400,
}
#: seconds after which a restarted process that does not respond is no longer waited for
READY_SECONDS = 90.0


class ChaosStack(FaultyStack):
    """Several web processes and workers, in a Redis database of its own, which the faults empty."""

    def __init__(self, folder: Path, *, redis_url: str, webs: int, workers: int, **proxies: Proxy) -> None:
        model = build_double_model(folder / "tiny")
        super().__init__(
            folder, model, redis_url=redis_url, database=proxies["database"], broker=proxies["broker"], **SETTINGS
        )
        self.ports = {"web": self.port} | {f"web-{number}": free_port() for number in range(2, webs + 1)}
        self.workers = ["worker", *(f"worker-{number}" for number in range(2, workers + 1))]
        self.urls = [f"http://127.0.0.1:{port}" for port in self.ports.values()]

    def start_all(self) -> None:
        self.start()
        names = [*list(self.ports)[1:], *self.workers[1:]]
        for name in names:
            self.start_process(name)
        wait_for(lambda: all(self.is_ready(name) for name in names), seconds=READY_SECONDS)

    def start_process(self, name: str) -> Process:
        return self.start_web(name, self.ports[name]) if name in self.ports else self.start_worker(name)

    def is_ready(self, name: str) -> bool:
        if name in self.ports:
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"http://127.0.0.1:{self.ports[name]}/health", timeout=5).is_success
            return False
        pid = f"%:{self.processes[name].pid}:%"
        return bool(self.query("SELECT 1 FROM inference_modelworker WHERE state = 'ready' AND name LIKE ?", pid))

    def kill_engine(self, worker: str) -> bool:
        """-9 to the process of this worker's engine. Returns whether there was one."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.processes[worker].pid).children():
                if "inference.engine_process" in child.cmdline():
                    child.kill()
                    return True
        return False

    def stop_all(self) -> None:
        """-9, whatever state they are in: what is left of them is a database, and that is dropped."""
        for process in self.processes.values():
            if process.is_running():
                process.kill()
        self.stop()


def build_double_model(folder: Path) -> Path:
    """The small model in double precision.

    Another attempt reads in one pass what the first read token by token, and the sums differ in their last bits. In
    single precision that decides one draw in a hundred thousand, which would be counted here as a text that differs.
    """
    build_tiny_model(folder)
    make_model(make_tokenizer(), seed=0).double().save_pretrained(folder)
    return folder
