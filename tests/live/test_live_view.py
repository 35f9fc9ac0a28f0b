"""The admin's live view over a real socket: a page that is left is no error, and a slow one gets the end."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import struct
import time

from tests.live.stack import EmbeddedStack

CHUNKS = 3000
CHUNK_CHARACTERS = 8000
#: opcode 8 with the code 1001, "going away", which a browser sends when its page is loaded anew
CLOSE = struct.pack("!H", 1001)


def staff_cookie(server: EmbeddedStack) -> str:
    return server.run_python(
        "import django; django.setup()\n"
        "from django.contrib.auth.models import User\n"
        "from django.test import Client\n"
        "user, _ = User.objects.get_or_create(username='watcher', is_staff=True, is_superuser=True)\n"
        "client = Client()\n"
        "client.force_login(user)\n"
        "print(client.cookies['sessionid'].value)\n"
    ).strip()


def open_view(server: EmbeddedStack, session_id: str, cookie: str) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", server.port))
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        f"GET /ws/admin/sessions/{session_id}/ HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        f"Origin: {server.base_url}",
        f"Cookie: sessionid={cookie}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    ]
    connection.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
    return connection


def leave(connection: socket.socket) -> None:
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(CLOSE))
    connection.sendall(struct.pack("!BB", 0x88, 0x80 | len(CLOSE)) + mask + masked)


def long_session(server: EmbeddedStack) -> str:
    """A finished session that takes the server many messages to tell, more than the buffers between hold."""
    return server.run_python(
        "import django; django.setup()\n"
        "from sessions_app.store.appending import Closing\n"
        "from tests.db.session_states import claimed, open_session, say, text\n"
        "session = claimed(open_session())\n"
        f"say(session, *[text('x' * {CHUNK_CHARACTERS})] * {CHUNKS}, closing=Closing(reason='stop'))\n"
        "print(session.pk)\n"
    ).strip()


def read_until(view: socket.socket, text: bytes) -> None:
    """Take what comes up to ``text``, and little more."""
    heard = b""
    while text not in heard:
        piece = view.recv(1024)
        assert piece, heard
        heard = heard[-len(text) :] + piece


def test_a_page_left_while_chunks_flow_is_no_error(embedded_server: EmbeddedStack) -> None:
    session_id = long_session(embedded_server)
    cookie = staff_cookie(embedded_server)
    before = len(embedded_server.logs())
    with contextlib.closing(open_view(embedded_server, session_id, cookie)) as left:
        read_until(left, b'"index"')
        # What is left is not taken: the server cannot finish the close while it still has chunks to send.
        leave(left)
        with contextlib.closing(open_view(embedded_server, session_id, cookie)) as other:
            read_until(other, b'"final": true')
    log = embedded_server.logs()[before:]
    assert "Traceback" not in log
    assert "the live view" not in log


def test_a_page_that_reads_late_still_gets_the_end(embedded_server: EmbeddedStack) -> None:
    session_id = long_session(embedded_server)
    with contextlib.closing(open_view(embedded_server, session_id, staff_cookie(embedded_server))) as late:
        read_until(late, b'"index"')
        # Meanwhile the server says all it has, and that it closes.
        time.sleep(6)
        read_until(late, b'"final": true')
