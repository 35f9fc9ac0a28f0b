"""Another project's server as a process group of its own: started, waited for, looked at and ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from benchmarks.engine.runs import LeftOut
from tests.live.stack import free_port

STOP_SECONDS = 20.0


class PeerProcess:
    """``{port}`` in the command becomes a free port of the loopback interface, on which it answers ``GET /health``."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self.command = [part.replace("{port}", str(self.port)) for part in command]
        with log.open("ab") as stream:
            # Its workers stay in the process group that begins here: that is how they are ended. A session
            # of its own would not do: Linux shares the cores out to sessions first, and it would get more than ours.
            self._process = subprocess.Popen(
                self.command,
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                process_group=0,
            )

    def wait(self, seconds: float) -> None:
        """Until it is healthy. Raises LeftOut when it ends or takes longer; ``log_end`` may say why."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise LeftOut(f"it ended at its start: {self.last_error()}")
            try:
                if httpx.get(f"{self.url}/health", timeout=5).is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        raise LeftOut(f"it was not ready within {seconds:.0f} s")

    def log_end(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def last_error(self) -> str:
        time.sleep(0.5)  # it is written a moment after the answer
        errors = re.findall(r"^\w+(?:\.\w+)*Error: .*", self.log.read_text(errors="replace"), re.MULTILINE)
        return errors[-1][:160] if errors else "nothing"

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """End it and what it has started."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                pass
        # A worker may outlive its parent.
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait(STOP_SECONDS)
