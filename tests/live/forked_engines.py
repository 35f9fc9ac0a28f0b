"""Starts the engines of servers that are forks themselves (``tests.live.preloaded``) as forks, which have torch.

A process with threads must not be forked, and a server has threads by the time its model loads. So each server first
forks a helper, and the helper forks the engine.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Collection
from typing import Any


class ForkedEngine:
    """The process of an engine; the part of ``subprocess.Popen`` that the worker needs."""

    def __init__(self, helper: Helper, pid: int) -> None:
        self.pid = pid
        self._helper = helper
        self._status: int | None = None

    def wait(self, timeout: float) -> int:
        """The exit status. Raises subprocess.TimeoutExpired."""
        deadline = time.monotonic() + timeout
        while self._status is None:
            self._status = self._helper.ask({"poll": self.pid})
            if self._status is None:
                if time.monotonic() > deadline:
                    raise subprocess.TimeoutExpired("the engine", timeout)
                time.sleep(0.005)
        return self._status

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class Helper:
    """The server's end of its helper, which ends with the server."""

    def __init__(self) -> None:
        """Fork the helper. The process must have no threads."""
        self._socket, theirs = socket.socketpair()
        self._asking = threading.Lock()
        if os.fork() == 0:
            self._socket.close()
            _serve(theirs)
        theirs.close()

    def start(self, descriptor: int, hidden: Collection[str]) -> ForkedEngine:
        """As ``inference.engine_process.client.start_child``."""
        return ForkedEngine(self, self.ask({"hidden": list(hidden)}, descriptor))

    def ask(self, request: dict[str, Any], *descriptors: int) -> Any:
        with self._asking:
            socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)
            return json.loads(self._socket.recv(1024))


def _serve(asked: socket.socket) -> None:
    """The helper. Ends its process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        told, descriptors, _flags, _address = socket.recv_fds(asked, 2**16, 1)
        if not told:
            os._exit(0)
        request = json.loads(told)
        if "poll" in request:
            ended, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        elif answer := os.fork():
            os.close(descriptors[0])
        else:
            asked.close()
            for name in request["hidden"]:
                os.environ.pop(name, None)
            from inference.engine_process.child import serve

            serve(descriptors[0])
        asked.sendall(json.dumps(answer).encode())
