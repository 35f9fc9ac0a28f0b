"""Starts servers as forks of a process that has imported PyTorch and Transformers.

Most of what a server does until it is ready is to import those. A fork is a process like any other: it runs
``manage.py`` from its first line, and can be signalled, killed and looked at.

    python -m tests.live.preloaded FILE_DESCRIPTOR_OF_A_SOCKET
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import itertools
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: commands of manage.py whose engine has a process of its own, which is forked too
HAVE_ENGINES = ("serve", "worker")
#: none of them starts a thread or reads the settings
MODULES = (
    "inference.engine.start",
    "inference.engine_process.child",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.processing_auto",
    "transformers.models.qwen2_vl.image_processing_qwen2_vl",
    "transformers.models.qwen3_vl.modeling_qwen3_vl",
    "transformers.models.qwen3_vl.processing_qwen3_vl",
    "transformers.models.qwen3_vl.video_processing_qwen3_vl",
    "accelerate",
    "av",
    "celery.app.base",
    "django.core.management",
    "psycopg",
    "pydantic",
    "redis.asyncio",
)


class Fork:
    """One process; the part of ``subprocess.Popen`` that servers need."""

    def __init__(self, preloaded: Preloaded, pid: int, name: str) -> None:
        self.pid = pid
        self._preloaded = preloaded
        self._name = name
        self._status: int | None = None

    def poll(self) -> int | None:
        """The exit status; that of a signal is negative. None while it runs."""
        if self._status is None:
            self._status = self._preloaded.ask({"poll": self.pid})
        return self._status

    def wait(self, timeout: float) -> int:
        """The exit status. Raises subprocess.TimeoutExpired."""
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self._name, timeout)
            time.sleep(0.01)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Preloaded:
    """The process that forks. It ends with the one that has made it."""

    def __init__(self, root: Path) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "tests.live.preloaded", str(theirs.fileno())]
            self._process = subprocess.Popen(command, cwd=root, pass_fds=[theirs.fileno()])
        self._asking = threading.Lock()
        self._numbers = itertools.count()
        self._socket = ours
        # Two files: one for both forgets what it has read ahead when it writes.
        self._answers, self._requests = ours.makefile("r"), ours.makefile("w")

    def start(self, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> Fork:
        """As ``python ARGUMENTS`` would, with output appended to ``log``.

        But variables that Python or a library reads at its import, such as ``OMP_NUM_THREADS``, change nothing.
        """
        log.touch()  # It can be read at once.
        pid = self.ask({"arguments": list(arguments), "env": dict(env), "cwd": str(cwd), "log": str(log)})
        return Fork(self, pid, " ".join(arguments))

    def ask(self, request: Mapping[str, Any]) -> Any:
        """The answer to the request. Raises RuntimeError when there is nobody to answer."""
        with self._asking:
            number = next(self._numbers)
            try:
                self._requests.write(json.dumps([number, request]) + "\n")
                self._requests.flush()
                # A test that was interrupted may have left the answer to its request unread.
                while line := self._answers.readline():
                    answered, answer = json.loads(line)
                    if answered == number:
                        return answer
            except OSError as exc:
                raise RuntimeError("the process that starts servers has ended") from exc
            raise RuntimeError("the process that starts servers has ended")

    def close(self) -> None:
        with contextlib.suppress(OSError):  # it has ended already
            self._requests.close()
        self._answers.close()
        self._socket.close()
        self._process.wait(10)


def serve(connection: socket.socket) -> None:
    """Answer until the other end is closed. Returns in each fork as well, which has run by then."""
    # A Ctrl-C is for the tests, which then stop the servers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from inference.engine.torchvision_compat import declare_missing_operators

    declare_missing_operators()
    for name in MODULES:
        importlib.import_module(name)
    # What is shared stays so: a collection would write to every object.
    gc.collect()
    gc.freeze()
    requests, answers = connection.makefile("r"), connection.makefile("w")
    ended: dict[int, int] = {}
    for line in requests:
        number, request = json.loads(line)
        if "poll" in request:
            asked = request["poll"]
            if asked not in ended and (pid_and_status := os.waitpid(asked, os.WNOHANG))[0]:
                # Kept: the test that asked may be interrupted before it reads the answer, and ask again.
                ended[asked] = os.waitstatus_to_exitcode(pid_and_status[1])
            answer = ended.get(asked)
        elif answer := os.fork():
            ended.pop(answer, None)  # the number of an earlier process
        else:
            # Not closed: its number would be given to another file, and closed with this object.
            os.dup2(os.open(os.devnull, os.O_RDWR), connection.fileno())
            run(**request)
            return
        answers.write(json.dumps([number, answer]) + "\n")
        answers.flush()


def run(arguments: Sequence[str], env: Mapping[str, str], cwd: str, log: str) -> None:
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for target, source in enumerate((nothing, output, output)):
        os.dup2(source, target)
    sys.argv = list(arguments)
    sys.path[0] = cwd
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.argv[1:] and sys.argv[1] in HAVE_ENGINES:
        from inference.engine_process import client
        from tests.live.forked_engines import Helper

        client.start_child = Helper().start  # type: ignore[assignment]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
