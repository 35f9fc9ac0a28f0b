"""Sends one hostile request, or several of a kind at once, and says what was answered and when.

It is a separate process, so that the client's own work does not slow down other clients. It prints ``ready`` when
everything is made, waits for a line, and prints the result as JSON. CATALOGUE is the module whose ``named`` knows NAME:

    python -m benchmarks.loop.sender CATALOGUE PORT NAME
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import re
import socket
import sys
import time
from dataclasses import dataclass

from benchmarks.loop.bodies import Pieces
from benchmarks.loop.hostile import LEFT, Hostile

#: time-out in seconds for everything, whatever a request waits for
MAX_SECONDS = 150.0
#: the start of a response's head; status 100 only asks for the body
_STATUS = re.compile(rb"HTTP/1\.[01] (?!100)([0-9]{3}) ")
#: length of the start of a head, kept because it may arrive in two parts
_TAIL_BYTES = 15


@dataclass(slots=True)
class Outcome:
    """What one connection got."""

    statuses: list[int]
    #: from the start until the last answer began, or the end of the connection
    seconds: float = 0.0


async def send(port: int, hostile: Hostile, pieces: Pieces) -> list[Outcome]:
    """All connections at once. An answer that did not come is ``LEFT`` among the statuses."""
    return await asyncio.gather(*(_send_one(port, hostile, pieces) for _ in range(hostile.connections)))


async def _send_one(port: int, hostile: Hostile, pieces: Pieces) -> Outcome:
    started = time.monotonic()
    outcome = Outcome([])
    # Not asyncio's streams: with them an answer is lost when the server takes no more of what is sent.
    with socket.socket() as connection:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
        sending = asyncio.create_task(_write(connection, pieces))
        reading = asyncio.create_task(_read(connection, outcome, hostile.answers))
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MAX_SECONDS):
                    # A server that refuses a body answers before it has come, and then there is no more to send.
                    await asyncio.wait({sending, reading}, return_when=asyncio.FIRST_COMPLETED)
                    if not reading.done():
                        await asyncio.wait({reading}, timeout=hostile.patience)
        finally:
            for task in (sending, reading):
                task.cancel()
            await asyncio.gather(sending, reading, return_exceptions=True)
        outcome.seconds = time.monotonic() - started
        if hostile.stays:
            await _drain(connection, hostile.stays)
    outcome.statuses += [LEFT] * (hostile.answers - len(outcome.statuses))
    return outcome


async def _write(connection: socket.socket, pieces: Pieces) -> None:
    """Send until everything is sent or the server closes the connection."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            if isinstance(piece, bytes):
                await loop.sock_sendall(connection, piece)
            else:
                await asyncio.sleep(piece)


async def _read(connection: socket.socket, outcome: Outcome, answers: int) -> None:
    """Until the answers have begun or the connection ends."""
    loop = asyncio.get_running_loop()
    tail = b""
    with contextlib.suppress(ConnectionError):
        while len(outcome.statuses) < answers and (data := await loop.sock_recv(connection, 65536)):
            tail += data
            end = 0
            for match in _STATUS.finditer(tail):
                outcome.statuses.append(int(match[1]))
                end = match.end()
            tail = tail[max(end, len(tail) - _TAIL_BYTES) :]


async def _drain(connection: socket.socket, seconds: float) -> None:
    """Read on, and keep nothing."""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(seconds):
            while await asyncio.get_running_loop().sock_recv(connection, 1 << 16):
                pass


def main(catalogue: str, port: str, name: str) -> None:
    # The server and those who watch it come first.
    os.nice(10)
    hostile: Hostile = importlib.import_module(catalogue).named(name)
    pieces = list(hostile.make())
    print("ready", flush=True)
    if not sys.stdin.readline():
        return
    outcomes = asyncio.run(send(int(port), hostile, pieces))
    found = {
        "statuses": [status for outcome in outcomes for status in outcome.statuses],
        "seconds": max(outcome.seconds for outcome in outcomes),
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
