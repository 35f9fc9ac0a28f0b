"""The clients, in a process of their own: when each had its first text and its end.

python -m benchmarks.serve.clients PORT SECONDS_BETWEEN_ARRIVALS AT_ONCE < bodies.json
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.listeners import Listener, all_ended, asking, listen
from tests.live.stack import ROOT

#: index of the first event that has text; the one before it says that the answer begins
FIRST_TEXT = 1


def run_clients(
    port: int, bodies: Sequence[dict[str, Any]], *, every_seconds: float = 0.0, at_once: int | None = None
) -> dict[str, Any]:
    """Stream the answers to ``bodies``: seconds from the first request to the last end, to each first text, of CPU.

    With ``at_once``, at most that many requests run at the same time.
    """
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serve.clients", str(port), str(every_seconds), str(at_once or len(bodies))],
        cwd=ROOT,
        input=json.dumps(bodies),
        capture_output=True,
        text=True,
        timeout=180,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def stream(port: int, bodies: Sequence[dict[str, Any]], every_seconds: float, at_once: int) -> dict[str, Any]:
    places = asyncio.Semaphore(at_once)
    listeners = await asyncio.gather(*(later(port, body, n * every_seconds, places) for n, body in enumerate(bodies)))
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": max(max(each.received.values()) for each in listeners) - min(each.asked for each in listeners),
        "first_text_seconds": [each.received[FIRST_TEXT] - each.asked for each in listeners],
        "events": sum(len(each.received) for each in listeners),
        "cpu_seconds": used.ru_utime + used.ru_stime,
    }


async def later(port: int, body: dict[str, Any], seconds: float, places: asyncio.Semaphore) -> Listener:
    await asyncio.sleep(seconds)
    async with places:
        [listener] = await listen(port, [asking(body)])
        await all_ended([listener])
    return listener


if __name__ == "__main__":
    _port, _every_seconds, _at_once = sys.argv[1:]
    print(json.dumps(asyncio.run(stream(int(_port), json.load(sys.stdin), float(_every_seconds), int(_at_once)))))
