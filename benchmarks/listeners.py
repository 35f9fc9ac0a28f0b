"""Many readers of streams in one process, cheap enough to leave the machine to the server that they measure."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterable
from typing import Any

CONNECTING = 50
WAIT_SECONDS = 120.0
_EVENT = re.compile(rb"id: [^\s:]+:([0-9]+)\ndata: ")
#: between the chunks of HTTP, which may part anything; JSON on one line has no line break of its own
_FRAME = re.compile(rb"\r\n[0-9a-f]+\r\n")


class Listener(asyncio.Protocol):
    """One stream. It looks for event ids and the end, and keeps no data."""

    def __init__(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.began: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        #: index of an event → when it came (seconds, Unix time)
        self.received: dict[int, float] = {}
        #: when the request was sent
        self.asked = 0.0
        self._request = request
        self._tail = b""

    def connection_made(self, transport: asyncio.WriteTransport) -> None:  # type: ignore[override]
        self.transport = transport
        self.asked = time.time()
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.time()
        data = _FRAME.sub(b"", self._tail + data)
        end = 0
        for match in _EVENT.finditer(data):
            self.received[int(match[1])] = now
            end = match.end()
        self._tail = data[end:][-200:]
        if self.received and not self.began.done():
            self.began.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.began, self.ended):
            if not future.done():
                future.set_result(None)


def asking(body: dict[str, Any]) -> bytes:
    """The request that opens a session."""
    content = json.dumps(body).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def attaching(session_id: str) -> bytes:
    """The request that reads one, with every event."""
    path = f"/v1/sessions/{session_id}/events?include_usage=true"
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


async def listen(port: int, requests: Iterable[bytes]) -> list[Listener]:
    """A stream for each request, each with its first event; a few are opened at a time."""
    places = asyncio.Semaphore(CONNECTING)
    loop = asyncio.get_running_loop()

    async def one(request: bytes) -> Listener:
        async with places, asyncio.timeout(WAIT_SECONDS):
            _, listener = await loop.create_connection(lambda: Listener(request), "127.0.0.1", port)
            await listener.began
            if not listener.received:
                raise RuntimeError(f"no event came for {request[:80]!r}")
            return listener

    return await asyncio.gather(*(one(request) for request in requests))


async def all_ended(listeners: Iterable[Listener]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.gather(*(listener.ended for listener in listeners))


def close(listeners: Iterable[Listener]) -> None:
    for listener in listeners:
        listener.transport.abort()
