"""The servers that are measured, what feeds them, and what the system says of their processes."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import psutil
import redis

from tests import services
from tests.live.stack import ROOT, EmbeddedStack, Process, ScaledStack, Stack, free_port

SETTINGS: dict[str, object] = {
    "MAX_OPEN_STREAMS": 20_000,
    "MAX_QUEUED_SESSIONS": 20_000,
    "SESSION_LEASE_SECONDS": 60,
    "MAX_BATCH_SIZE": 50,
}


class StampedScaledStack(ScaledStack):
    def start_worker(self, name: str) -> Process:
        return self.launch(name, "-m", "benchmarks.stamped", "worker", "--name", name)


class StampedEmbeddedStack(EmbeddedStack):
    def start(self) -> Self:
        self.launch("serve", "-m", "benchmarks.stamped", "serve", "--port", str(self.port))
        return self.wait_for_health("modelReady")


@contextlib.contextmanager
def scaled(folder: Path, model: Path, *, with_worker: bool) -> Iterator[ScaledStack]:
    with own_redis(folder) as redis_url:
        stack = StampedScaledStack(folder, model, postgres_url=services.POSTGRES_URL, redis_url=redis_url, **SETTINGS)
        # PostgreSQL gets an application name, so that the web process's connections can be counted.
        stack.env |= {"PGAPPNAME": "web", "COMMIT_STAMPS": str(folder / "commits")}
        try:
            yield stack.start(with_worker=with_worker)
        finally:
            stack.stop()


@contextlib.contextmanager
def embedded(folder: Path, model: Path) -> Iterator[EmbeddedStack]:
    stack = StampedEmbeddedStack(folder, model, **SETTINGS)
    stack.env["COMMIT_STAMPS"] = str(folder / "commits")
    try:
        yield stack.start()
    finally:
        stack.stop()


@contextlib.contextmanager
def own_redis(folder: Path) -> Iterator[str]:
    """A broker without messages of others."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("redis-server is not on the PATH")
    folder.mkdir(parents=True)
    port = free_port()
    server = subprocess.Popen(
        [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    try:
        url = f"redis://127.0.0.1:{port}/0"
        with redis.Redis.from_url(url) as client:
            deadline = time.monotonic() + 10
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
        yield url
    finally:
        server.terminate()
        server.wait(10)


def feeder(stack: Stack, command: str, name: str, *numbers: object) -> str:
    """Run it to its end; what it prints."""
    arguments = ["-m", "benchmarks.feeder", command, name, *map(str, numbers)]
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=stack.env | {"PGAPPNAME": "feeder"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def commits(stack: Stack) -> Iterator[tuple[str, int, float]]:
    """Session, index and Unix time of the commit of each chunk that the worker wrote."""
    for line in (stack.folder / "commits").read_text().splitlines():
        committed, groups = json.loads(line)
        for session_id, first, last in groups:
            for index in range(first, last + 1):
                yield session_id, index, committed


def web_connections(stack: ScaledStack) -> int:
    sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'web'"
    return int(stack.query(sql)[0][0])


def memory_kb(pid: int, which: str = "VmRSS") -> int:
    return int(Path(f"/proc/{pid}/status").read_text().split(f"{which}:")[1].split()[0])


def forget_peak_memory(pid: int) -> None:
    """Reset ``VmHWM``."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def threads(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().split("Threads:")[1].split()[0])


def cpu_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def tree_cpu_seconds(pid: int) -> float:
    """Of the process and of all below it, those that have ended included, but none whose parent has ended before it."""
    process = psutil.Process(pid)
    seconds = 0.0
    for each in [process, *process.children(recursive=True)]:
        # One that has just ended counts in its parent.
        with contextlib.suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
    return seconds


def allow_sockets(count: int) -> None:
    """For this process and those that it starts."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = count if most == resource.RLIM_INFINITY else min(count, most)
    if soft < count:
        raise SystemExit(f"{count} open files are needed, {most} are allowed here; take fewer streams")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, resource.getrlimit(resource.RLIMIT_NOFILE)[0]), most))
