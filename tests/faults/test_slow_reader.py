"""Readers that do not read: bounded in memory, cut loose, able to resume, and nobody else's trouble."""

from __future__ import annotations

import json
import re
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.live.events import ALL_EVENTS, indexes_of, long_question, read_stream
from tests.live.stack import EmbeddedStack
from tests.waiting import wait_for

EVENTS = 20_000
TEXT = "dua puluh ribu kata " * 20
STALLED_READERS = 6
#: six times a session of 13 MB would be 80; what is held is a page of chunks and 128 kB of events for each
MEMORY_KB = 30_000

FILL = f"""
import django; django.setup()
from sessions_app.store import appending, opening, transitions
session, _ = opening.open_session(session_id="long", request={{}}, request_digest="", model="tiny")
claimed = transitions.claim("long", worker="a test")
pieces = [appending.Piece({{"type": "text", "text": {TEXT!r}}}, [7]) for _ in range({EVENTS - 4})]
assert appending.append([appending.Append("long", claimed.attempt, 1, pieces, appending.Closing())]) == set()
"""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="reads memory by /proc, which this system has not"
)


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    stack = EmbeddedStack(tmp_path_factory.mktemp("slow"), tiny_model, STALLED_READER_SECONDS="1")
    try:
        stack.start()
        stack.run_python(FILL)
        yield stack
    finally:
        stack.stop()


class StalledReader:
    """Asks for the long session's events and takes the first few kilobytes only."""

    def __init__(self, server: EmbeddedStack) -> None:
        self._socket = socket.socket()
        # Small, so that the system's own buffers do not swallow the whole session.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self._socket.connect(("127.0.0.1", server.port))
        self._socket.sendall(
            b"GET /v1/sessions/long/events?include_usage=true HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        self._got = self._socket.recv(4096)

    def __enter__(self) -> StalledReader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()

    def is_cut_loose(self) -> bool:
        poll = select.poll()
        poll.register(self._socket, 0)  # only errors and the end
        return bool(poll.poll(0))

    def last_id(self) -> str:
        """Of the last whole event among what did arrive before the end."""
        try:
            while data := self._socket.recv(65536):
                self._got += data
        except ConnectionResetError:
            pass
        body = unchunked(self._got.partition(b"\r\n\r\n")[2])
        whole = body[: body.rindex(b"\n\n")]
        return re.findall(rb"^id: (.*)$", whole, re.MULTILINE)[-1].decode()


def unchunked(data: bytes) -> bytes:
    """The body of a response in HTTP's chunks; the last may be cut off."""
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        body += data[:length]
        data = data[length + 2 :]
    return body


def peak_memory(pid: int) -> int:
    """The most it had since ``forget_peak_memory``. kB."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0])


def forget_peak_memory(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def resume(http: httpx.Client, event_id: str) -> list[int]:
    return indexes_of(read_stream(http, ALL_EVENTS, Last_Event_ID=event_id))


def test_one_that_does_not_read_is_cut_loose_and_can_resume_with_exactly_the_rest(server: EmbeddedStack) -> None:
    with StalledReader(server) as reader, server.client() as http:
        wait_for(reader.is_cut_loose)
        last_id = reader.last_id()
        index = int(last_id.rpartition(":")[2])
        assert 0 < index < EVENTS - 1
        assert resume(http, last_id) == list(range(index + 1, EVENTS))


def test_those_that_do_not_read_cost_no_memory_and_hold_nobody_up(server: EmbeddedStack) -> None:
    pid = server.processes["serve"].pid
    with server.client() as http:
        whole = read_stream(http, long_question(max_tokens=20))  # and what a first replay allocates for good
        resume(http, "long:10")
        forget_peak_memory(pid)
        before = peak_memory(pid)
        with ExitStack() as readers:
            stalled = [readers.enter_context(StalledReader(server)) for _ in range(STALLED_READERS)]
            beside = read_stream(http, long_question(max_tokens=400))
            wait_for(lambda: all(reader.is_cut_loose() for reader in stalled))
            assert peak_memory(pid) - before < MEMORY_KB
        assert indexes_of(beside) == list(range(len(beside)))
        assert whole[-1].data == beside[-1].data == "[DONE]"
        # Nothing of them is left behind: the process still answers, and the session is whole.
        assert json.loads(http.get("/health").text)["ok"]
        assert resume(http, f"long:{EVENTS - 3}") == [EVENTS - 2, EVENTS - 1]
