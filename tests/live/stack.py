"""Real servers for the live tests: started as processes, with databases of their own, stopped by their ids."""

from __future__ import annotations

import abc
import base64
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import psycopg
import redis

from tests.live import migrated
from tests.live.preloaded import Fork, Preloaded

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 180.0
STOP_SECONDS = 20.0
API_TIMEOUT_SECONDS = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """One process of a stack, with its log in a file."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        env: dict[str, str],
        log: Path,
        root: Path = ROOT,
        preloaded: Preloaded | None = None,
    ) -> None:
        self.log = log
        self._process: Fork | subprocess.Popen[bytes]
        if preloaded and root == ROOT and arguments[0] == "manage.py":
            self._process = preloaded.start(arguments, env=env, cwd=root, log=log)
            return
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, *arguments], cwd=root, env=env, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """-9: no chance to clean up."""
        self._process.kill()
        self._process.wait(STOP_SECONDS)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        if self.is_running():
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it did not stop within {STOP_SECONDS} s:\n{self.log.read_text()[-3000:]}") from None


class Stack(abc.ABC):
    """A running server: ``base_url`` to talk to it, ``query`` to look into its database."""

    #: the checkout that it runs from
    root: Path = ROOT
    #: what starts its processes faster than Python does, see ``tests.live.preloaded``; None: Python
    preloaded: Preloaded | None = None

    def __init__(self, folder: Path, model: Path, **settings: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.processes: dict[str, Process] = {}
        self.env = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}} | {
            "ENV_FILE": os.devnull,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "SECRET_KEY": secrets.token_urlsafe(40),
            "DATA_KEYS": f"stack:{base64.b64encode(secrets.token_bytes(32)).decode()}",
            "MODEL_REPO_ID": str(model),
            "SESSIONS_DB_PATH": str(folder / "sessions.db"),
            "MEDIA_ALLOW_PRIVATE_HOSTS": "1",
            "SESSION_LEASE_SECONDS": "3",
            "SWEEP_SECONDS": "0.5",
            "TEMPERATURE": "1.0",
            "TORCH_THREADS": "1",
            "LOG_LEVEL": "INFO",
            "OCR_MAX_TOKENS": "200",
            **{name: str(value) for name, value in settings.items()},
        }

    def launch(self, name: str, *arguments: str) -> Process:
        process = Process(
            arguments, env=self.env, log=self.folder / f"{name}.log", root=self.root, preloaded=self.preloaded
        )
        self.processes[name] = process
        return process

    def manage(self, *arguments: str) -> str:
        return self._run("manage.py", *arguments)

    def run_python(self, code: str) -> str:
        """Run a few lines with this stack's settings."""
        return self._run("-c", code)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.base_url, timeout=API_TIMEOUT_SECONDS, **options)

    def wait_for_health(self, member: str) -> Self:
        """Until ``/health`` says so: ``ok`` for the server, ``modelReady`` for the model."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for name, process in self.processes.items():
                assert process.is_running(), f"{name} has ended:\n{process.log.read_text()[-3000:]}"
            try:
                if httpx.get(f"{self.base_url}/health", timeout=5).json()[member]:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"not ready within {START_SECONDS} s:\n{self.logs()}")

    def logs(self) -> str:
        return "\n".join(f"--- {name}\n{process.log.read_text()}" for name, process in self.processes.items())

    def stop(self) -> None:
        for process in self.processes.values():
            if process.is_running():
                process.stop()

    @abc.abstractmethod
    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Look into its database; ``?`` stands for a parameter."""


class EmbeddedStack(Stack):
    """Web and worker in one process, on SQLite."""

    def start(self) -> Self:
        database = Path(self.env["SESSIONS_DB_PATH"])
        if not database.exists():
            migrated.create_sqlite(database, self.root, self.env)
        self.launch("serve", "manage.py", "serve", "--port", str(self.port))
        return self.wait_for_health("modelReady")

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.env["SESSIONS_DB_PATH"], timeout=20)
        try:
            rows = connection.execute(sql, parameters).fetchall()
            connection.commit()
            return rows
        finally:
            connection.close()


class ScaledStack(Stack):
    """Daphne and a Celery worker as processes of their own, on PostgreSQL and Redis."""

    def __init__(self, folder: Path, model: Path, *, postgres_url: str, redis_url: str, **settings: object) -> None:
        super().__init__(folder, model, **settings)
        self._postgres_url = postgres_url
        self.redis_url = redis_url
        self._database = f"sambung_live_{os.getpid()}_{secrets.token_hex(3)}"
        self._database_url = migrated.beside(postgres_url, self._database)
        self.env |= {"DATABASE_URL": self._database_url, "REDIS_URL": redis_url}

    def start(self, *, with_worker: bool = True) -> Self:
        migrated.create_postgresql(self._database, self._postgres_url, self.root, self.env)
        self.start_web("web", self.port)
        if with_worker:
            self.start_worker("worker")
        return self.wait_for_health("modelReady" if with_worker else "ok")

    def start_web(self, name: str, port: int) -> Process:
        return self.launch(name, "manage.py", "web", "--port", str(port))

    def start_worker(self, name: str) -> Process:
        return self.launch(name, "manage.py", "worker", "--name", name)

    def stop(self) -> None:
        try:
            super().stop()
        finally:
            with psycopg.connect(self._postgres_url, autocommit=True) as connection:
                connection.execute(f'DROP DATABASE IF EXISTS "{self._database}" WITH (FORCE)')
            # What is left in the queue is nobody's, and the next stack's worker would run into it.
            with redis.Redis.from_url(self.redis_url) as broker:
                broker.flushdb()

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            cursor = connection.execute(sql.replace("?", "%s"), parameters)
            return cursor.fetchall() if cursor.description else []
