"""SIGHUP asks to try again; that of a terminal which was closed still ends the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

#: takes the terminal on its standard input, if it is one, for its own; says what it hears, and ends by itself
SERVER = r"""
import fcntl, os, signal, sys, termios, time
if os.isatty(0):
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
if "nohup" in sys.argv:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
from inference.worker.hangup import on_hangup
# No print: the signal may come in the middle of the one below.
on_hangup(lambda: os.write(1, b"again\n"))
print("listening", flush=True)
for _ in range(600):
    time.sleep(0.1)
"""


class Server:
    def __init__(self, *arguments: str, stdin: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""},
        )
        assert self.says() == "listening"

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """What a terminal's window holds, and what the programs in it do; the test closes the first."""
    window, inside = os.openpty()
    yield window, inside
    os.close(inside)


def end(server: Server) -> None:
    server.process.kill()
    server.process.wait()
    assert server.process.stdout is not None
    server.process.stdout.close()


def test_the_signal_sent_by_hand_asks_again_each_time(terminal: tuple[int, int]) -> None:
    window, inside = terminal
    server = Server(stdin=inside)
    for _ in range(2):
        server.process.send_signal(signal.SIGHUP)
        assert server.says() == "again"
    end(server)
    os.close(window)


def test_a_server_whose_terminal_is_closed_stops(terminal: tuple[int, int]) -> None:
    window, inside = terminal
    server = Server(stdin=inside)
    os.close(window)
    assert server.process.wait(30) == -signal.SIGTERM
    assert server.says() == ""
    end(server)


def test_a_server_that_was_told_to_outlive_its_terminal_does(terminal: tuple[int, int]) -> None:
    window, inside = terminal
    server = Server("nohup", stdin=inside)
    os.close(window)
    assert server.says() == "again"
    assert server.process.poll() is None
    end(server)
