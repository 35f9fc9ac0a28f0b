"""The web server by itself, with an application that only sends: what Daphne does not do, and what it still does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.live.stack import ROOT, STOP_SECONDS, free_port
from tests.waiting import wait_for

APPLICATION = """
import sys
import django
django.setup()
from daphne.endpoints import build_endpoint_description_strings
from sessions_app.web_server import BackpressureServer

sent = 0

async def application(scope, receive, send):
    global sent
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        if scope["path"] in ("/large", "/some"):
            for number in range(1000 if scope["path"] == "/large" else 64):
                await send({"type": "websocket.send", "bytes": bytes(65536)})
                sent += 65536
            await send({"type": "websocket.close"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/early":
        raise RuntimeError("before the first part")
    if scope["path"] == "/broken":
        await send({"type": "http.response.body", "body": b"a part", "more_body": True})
        raise RuntimeError("after the first part")
    for number in range(1000 if scope["path"] == "/large" else 3 if scope["path"] == "/parts" else 0):
        await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
        sent += 65536
    figures = f"{len(server._gates)} {sum('disconnected' not in each for each in server.connections.values())} {sent}"
    await send({"type": "http.response.body", "body": figures.encode()})

server = BackpressureServer(
    application=application,
    endpoints=build_endpoint_description_strings(host="127.0.0.1", port=int(sys.argv[1])),
    on_ready=lambda: None,
    verbosity=0,
)
server.run()
"""
LARGE_BYTES = 1000 * 65536
REQUEST = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
LARGE_UPGRADE = UPGRADE.replace(b"GET / ", b"GET /large ")
SOME_UPGRADE = UPGRADE.replace(b"GET / ", b"GET /some ")
CLOSED_WELL = bytes((0x88, 2)) + (1000).to_bytes(2, "big")


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    env = os.environ | {"STALLED_READER_SECONDS": "1", "PYTHONPATH": str(ROOT)}
    with (tmp_path_factory.mktemp("server") / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", APPLICATION, str(port)], cwd=ROOT, env=env, stdout=log, stderr=log
        )
    try:
        wait_for(lambda: answers(port))
        yield port
    finally:
        server.terminate()
        server.wait(STOP_SECONDS)


@pytest.fixture
def http(port: int) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=STOP_SECONDS) as client:
        yield client


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/").is_success
    except httpx.TransportError:
        return False


def figures(http: httpx.Client) -> tuple[int, int, int]:
    """Gates held, connections open (this one included), bytes that the application got rid of."""
    gates, connections, sent = (int(part) for part in http.get("/").text.split())
    return gates, connections, sent


def stall(port: int, request: bytes = REQUEST) -> socket.socket:
    """A client that asks for the large answer and does not read it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(request)
    return client


def test_an_answer_in_parts_comes_whole_and_leaves_no_gate(http: httpx.Client) -> None:
    for _ in range(3):
        assert len(http.get("/parts").content) > 3 * 65536
    assert figures(http)[:2] == (0, 1)


def test_a_reader_that_reads_gets_all_of_a_large_answer(http: httpx.Client) -> None:
    assert len(http.get("/large").content) > LARGE_BYTES


def test_the_application_waits_for_a_reader_that_does_not_read(port: int, http: httpx.Client) -> None:
    before = figures(http)[2]
    with stall(port), stall(port):
        wait_for(lambda: figures(http)[0] == 2)
        assert 0 < figures(http)[2] - before < LARGE_BYTES // 2
        wait_for(lambda: figures(http)[0] == 0)
        # Cut loose, and the application has learned it: nothing more is sent into the void for longer than it takes.
        wait_for(lambda: figures(http)[1] == 1)


def test_a_reader_that_leaves_while_the_application_waits_leaves_no_gate(port: int, http: httpx.Client) -> None:
    with stall(port):
        wait_for(lambda: figures(http)[0] == 1)
    wait_for(lambda: figures(http)[:2] == (0, 1))


def test_a_reader_that_reads_slowly_is_not_cut(port: int) -> None:
    with stall(port) as client:
        client.settimeout(STOP_SECONDS)
        for _ in range(30):
            # Twice as long, in all, as one that takes nothing may stay.
            assert client.recv(4096)
            time.sleep(0.1)
        received = 0
        while received < LARGE_BYTES // 2:
            data = client.recv(1 << 20)
            assert data
            received += len(data)


@pytest.mark.parametrize("path", ["/early", "/broken"])
def test_an_answer_that_an_error_broke_off_ends_as_broken_and_is_forgotten(http: httpx.Client, path: str) -> None:
    with pytest.raises(httpx.TransportError):
        http.get(path)
    with pytest.raises(httpx.TransportError):
        http.get(path)
    assert figures(http)[:2] == (0, 1)


def test_a_websocket_says_and_hears_and_leaves_no_gate(port: int, http: httpx.Client) -> None:
    with socket.create_connection(("127.0.0.1", port), STOP_SECONDS) as client, client.makefile("rb") as received:
        client.sendall(UPGRADE)
        while received.readline().strip():
            pass
        for text in (b"Halo", b"apa kabar"):
            # A text frame with a mask of zeros, which leaves the text as it is.
            client.sendall(bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text)
            assert received.read(2 + len(text)) == bytes((0x81, len(text))) + text
    wait_for(lambda: figures(http)[:2] == (0, 1))


def test_a_websocket_whose_reader_does_not_read_waits_and_is_cut_loose(port: int, http: httpx.Client) -> None:
    before = figures(http)[2]
    with stall(port, LARGE_UPGRADE):
        wait_for(lambda: figures(http)[0] == 1)
        assert figures(http)[2] - before < LARGE_BYTES // 2
        wait_for(lambda: figures(http)[:2] == (0, 1))


def test_a_websocket_whose_reader_reads_gets_all_of_it_and_the_close(port: int, http: httpx.Client) -> None:
    with socket.create_connection(("127.0.0.1", port), STOP_SECONDS) as client, client.makefile("rb") as received:
        client.sendall(LARGE_UPGRADE)
        while received.readline().strip():
            pass
        for _ in range(1000):
            # A binary frame whose length comes in eight bytes.
            assert received.read(10) == bytes((0x82, 127)) + (65536).to_bytes(8, "big")
            assert len(received.read(65536)) == 65536
        assert received.read(4) == CLOSED_WELL
    wait_for(lambda: figures(http)[:2] == (0, 1))


def test_a_websocket_whose_reader_reads_slowly_gets_the_close_too(port: int, http: httpx.Client) -> None:
    with stall(port, SOME_UPGRADE) as client:
        client.settimeout(STOP_SECONDS)
        received = b""
        while not received.endswith(CLOSED_WELL):
            # Behind the close three times as long, in all, as one that takes nothing may stay.
            part = client.recv(131_072)
            assert part
            received += part
            time.sleep(0.002 * len(part) / 2048)
        assert len(received) > 64 * 65536
    wait_for(lambda: figures(http)[:2] == (0, 1))
