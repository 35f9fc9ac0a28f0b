"""A client in its own environment and process, which does one case after another."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
from pathlib import Path
from typing import IO, Any

from tests.contract import environments
from tests.contract.clients import Client

SCRIPTS = Path(__file__).resolve().parent / "scripts"
#: importing some packages takes ten seconds on a busy machine
CASE_SECONDS = 180
STOP_SECONDS = 20


class CaseFailed(AssertionError):
    """The client raised where it should not have. The text is its traceback."""


class ClientProcess:
    """Asks a client for cases by its standard input and output, see ``scripts/contract.py``."""

    def __init__(self, client: Client, log: Path) -> None:
        """Raises ``environments.NotBuilt``."""
        self.client = client
        self._log = log
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                _command(client),
                env=_environ(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                encoding="utf-8",
            )
        self._answers: queue.Queue[str] = queue.Queue()
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=[self._process.stdout])
        self._reader.start()

    def do(self, case: str, server: dict[str, str]) -> Any:
        """Do a case to its end. Raises CaseFailed."""
        self.begin(case, server)
        return self.result()

    def begin(self, case: str, server: dict[str, str]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"case": case, "server": server}) + "\n")
        self._process.stdin.flush()

    def result(self) -> Any:
        """The result of the case that was begun. Raises CaseFailed."""
        try:
            line = self._answers.get(timeout=CASE_SECONDS)
        except queue.Empty:
            line = ""
        if not line:
            raise CaseFailed(f"{self.client.name} has not answered:\n{self._log.read_text()[-3000:]}")
        answer = json.loads(line)
        if "failed" in answer:
            raise CaseFailed(f"{self.client.name}:\n{answer['failed']}")
        return answer["result"]

    def close(self) -> None:
        """Tell it that no further case comes; it ends."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def stop(self) -> None:
        """Wait for its end after ``close``."""
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_SECONDS)
        self._reader.join(STOP_SECONDS)

    def _read(self, lines: IO[str]) -> None:
        with lines:
            for line in lines:
                self._answers.put(line)
        self._answers.put("")


def _command(client: Client) -> list[str]:
    if not client.script.endswith(".mjs"):
        return [str(environments.python_of(client.name)), str(SCRIPTS / client.script)]
    # Node looks for packages beside the script.
    folder = environments.prepared(client.name)
    for file in ("contract.mjs", client.script):
        shutil.copy(SCRIPTS / file, folder)
    return [str(environments.node()), str(folder / client.script)]


def _environ() -> dict[str, str]:
    """Without what would tell the clients of other servers, or of this project's packages."""
    ours = ("OPENAI_", "PYTHON", "DJANGO_", "LITELLM_", "LANGSMITH_", "LANGCHAIN_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}
