"""Sessions that grow by a clock instead of by a model: how streams are loaded beyond what a small machine generates.

Everything goes through ``sessions_app.store``, group commit and wake-ups included; only the texts are invented. It
runs as a process of its own, with the settings of the server that it feeds:

    python -m benchmarks.feeder open NAME SESSIONS
    python -m benchmarks.feeder fill NAME EVENTS
    python -m benchmarks.feeder feed NAME SESSIONS CHUNKS_A_SECOND SECONDS
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable

import django
from django.db import transaction

django.setup()

from sessions_app import wakeups  # noqa: E402  (models need the settings)
from sessions_app.store import appending, opening, transitions  # noqa: E402


def open_sessions(names: Iterable[str]) -> None:
    """Open and claim them, so that they run and this process is their worker."""
    for name in names:
        # At once: a real worker beside this one hears of a session when it is committed, and finds it claimed.
        with transaction.atomic():
            opening.open_session(session_id=name, request={}, request_digest="", model="none", needs_listener=False)
            transitions.claim(name, worker="feeder")


def fill(name: str, events: int) -> None:
    """One finished session with this many events."""
    open_sessions([name])
    pieces = [
        appending.Piece({"type": "text", "text": f" kata{number % 1000}"}, [number]) for number in range(events - 4)
    ]
    appending.append([appending.Append(name, 1, 1, pieces, appending.Closing(completion_tokens=len(pieces)))])


def feed(names: list[str], *, rate: float, seconds: float) -> list[float]:
    """A chunk for every session, ``rate`` times a second, then its end; when each was committed (Unix time)."""
    committed: list[float] = []
    piece = appending.Piece({"type": "text", "text": " kata"}, [7])
    wakeups.publish([])  # connects to Redis: once a process, and no stream's latency
    started = time.time()
    for tick in range(round(rate * seconds)):
        time.sleep(max(0.0, started + tick / rate - time.time()))
        commit([appending.Append(name, 1, 1 + tick, [piece]) for name in names], committed)
    end = len(committed) + 1
    commit([appending.Append(name, 1, end, (), appending.Closing(completion_tokens=end - 1)) for name in names], [])
    return committed


def commit(appends: list[appending.Append], committed: list[float]) -> None:
    with transaction.atomic():
        # Before those of append: the wake-ups are published after this.
        transaction.on_commit(lambda: committed.append(time.time()))
        if lost := appending.append(appends):
            raise RuntimeError(f"lost {len(lost)} sessions; is another worker at them?")


def main(command: str, name: str, *numbers: str) -> None:
    if command == "fill":
        fill(name, int(numbers[0]))
        return
    names = [f"{name}-{number}" for number in range(int(numbers[0]))]
    if command == "open":
        open_sessions(names)
    else:
        print(json.dumps(feed(names, rate=float(numbers[1]), seconds=float(numbers[2]))))


if __name__ == "__main__":
    main(*sys.argv[1:])
