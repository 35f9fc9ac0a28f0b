"""The clients, in a process of their own: what each got, when its first text came and when its end.

python -m benchmarks.serve.clients PORT SECONDS_BETWEEN_ARRIVALS AT_ONCE < {"bodies": […], "pids": […]}
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.listeners import asking
from benchmarks.serve.answers import Answer, read_answer
from benchmarks.servers import tree_cpu_seconds
from tests.live.stack import ROOT

#: among the shares of the processors: that of the clients, which are no part of a server
CLIENTS = "clients"
#: for all answers of a run
RUN_SECONDS = 900.0


def run_clients(
    port: int,
    bodies: Sequence[dict[str, Any]],
    *,
    every_seconds: float = 0.0,
    at_once: int | None = None,
    pids: Sequence[int] = (),
) -> dict[str, Any]:
    """Stream the answers to ``bodies``: texts, tokens, and the seconds to the first text of each and to the last end.

    With ``at_once``, at most that many requests run at the same time. ``used`` is the processor time of each of
    ``pids``, with the processes that it has started, from the first request to the last end. Raises RuntimeError when
    an answer is not whole.
    """
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serve.clients", str(port), str(every_seconds), str(at_once or len(bodies))],
        cwd=ROOT,
        input=json.dumps({"bodies": bodies, "pids": pids}),
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS + 60,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def as_run(found: dict[str, Any], tokens: int, processes: Sequence[str]) -> dict[str, Any]:
    """What a comparison keeps of what the clients found. ``processes`` names their ``pids``, in their order."""
    seconds = found["seconds"]
    return {
        "rate": tokens / seconds,
        "first_seconds": found["first_text_seconds"],
        "texts": found["texts"],
        "events": found["events"],
        "cores": {name: used / seconds for name, used in zip(processes, found["used"], strict=True)}
        | {CLIENTS: found["cpu_seconds"] / seconds},
    }


@dataclass(frozen=True, slots=True)
class Stream:
    asked: float
    answer: Answer


class Connection(asyncio.Protocol):
    """Keeps what comes, and when."""

    def __init__(self, request: bytes) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.asked = 0.0
        #: seconds (Unix time) and bytes
        self.pieces: list[tuple[float, bytes]] = []
        self._request = request

    def connection_made(self, transport: asyncio.WriteTransport) -> None:  # type: ignore[override]
        self.asked = time.time()
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.pieces.append((time.time(), data))

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(None)


async def stream(
    port: int, every_seconds: float, at_once: int, bodies: Sequence[dict[str, Any]], pids: Sequence[int]
) -> dict[str, Any]:
    places = asyncio.Semaphore(at_once)
    # Written out before the clock runs: images are long.
    requests = [asking(body) for body in bodies]
    before = [tree_cpu_seconds(pid) for pid in pids]
    async with asyncio.timeout(RUN_SECONDS):
        connections = await asyncio.gather(
            *(later(port, request, n * every_seconds, places) for n, request in enumerate(requests))
        )
    # At once: a server may wait busily for a while when it has answered.
    spent = [tree_cpu_seconds(pid) - then for pid, then in zip(pids, before, strict=True)]
    used = resource.getrusage(resource.RUSAGE_SELF)
    streams = [Stream(each.asked, read_answer(each.pieces)) for each in connections]
    return {
        "seconds": max(each.answer.ended_at for each in streams) - min(each.asked for each in streams),
        "first_text_seconds": [each.answer.first_text_at - each.asked for each in streams],
        "texts": [each.answer.text for each in streams],
        "tokens": [each.answer.completion_tokens for each in streams],
        "events": sum(each.answer.events for each in streams),
        "used": spent,
        "cpu_seconds": used.ru_utime + used.ru_stime,
    }


async def later(port: int, request: bytes, seconds: float, places: asyncio.Semaphore) -> Connection:
    await asyncio.sleep(seconds)
    async with places:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(request), "127.0.0.1", port)
        await connection.ended
    return connection


if __name__ == "__main__":
    _port, _every_seconds, _at_once = sys.argv[1:]
    try:
        print(json.dumps(asyncio.run(stream(int(_port), float(_every_seconds), int(_at_once), **json.load(sys.stdin)))))
    except ValueError as error:
        sys.exit(f"an answer is not whole: {error}")
