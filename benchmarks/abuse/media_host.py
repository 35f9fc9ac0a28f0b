"""A media server on this machine whose manners are as bad as its path says. Its threads end with the process."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: names under it never resolve where ``benchmarks.abuse.served`` runs
DEAD_SUFFIX = ".dead.example"
#: maximum seconds that a connection is served
MAX_SECONDS = 60.0
#: seconds between two bytes of ``/drip``
DRIP_SECONDS = 0.0005
#: seconds between two bytes of the head of ``/slow-head``
SLOW_SECONDS = 0.5
LARGE_BYTES = 200 * 10**6


class MediaHost:
    """Serves ``files`` by path, and besides

    ``/drip…``       a picture of 10 MB, a byte at a time
    ``/silent…``     nothing, ever
    ``/slow-head…``  a head that never ends
    ``/endless…``    200 MB whose length is not declared
    ``/around…``     a redirect to itself
    """

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        server = _Server(("127.0.0.1", 0), _Page)
        server.files = dict(files or {})
        self.port = int(server.server_port)
        threading.Thread(target=server.serve_forever, name="media-host", daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    files: dict[str, bytes]


class _Page(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            name = self.path[1:].split("/")[0]
            manners = {
                "drip": self._drip,
                "silent": self._be_silent,
                "slow-head": self._send_head_slowly,
                "endless": self._send_much,
                "around": self._redirect,
            }
            manners.get(name, self._send_file)()

    def _drip(self) -> None:
        self._begin(10**7)
        self._one_by_one(b"\x89", DRIP_SECONDS)

    def _be_silent(self) -> None:
        time.sleep(MAX_SECONDS)

    def _send_head_slowly(self) -> None:
        self.connection.sendall(b"HTTP/1.1 200 OK\r\nX-Padding: ")
        self._one_by_one(b"a", SLOW_SECONDS)

    def _send_much(self) -> None:
        self._begin(None)
        block = b"\xff\xd8\xff" + bytes(1 << 16)
        for _ in range(LARGE_BYTES // len(block)):
            self.connection.sendall(block)

    def _redirect(self) -> None:
        self.send_response(302)
        self.send_header("Location", self.path)
        self.end_headers()

    def _send_file(self) -> None:
        file = self.server.files.get(self.path)
        if file is None:
            self.send_error(404)
            return
        self._begin(len(file))
        self.wfile.write(file)

    def _begin(self, length: int | None) -> None:
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _one_by_one(self, byte: bytes, seconds: float) -> None:
        end = time.monotonic() + MAX_SECONDS
        while time.monotonic() < end:
            self.connection.sendall(byte)
            time.sleep(seconds)

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""
