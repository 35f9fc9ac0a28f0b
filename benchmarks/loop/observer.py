"""Asks ``/health`` every 20 ms and reads the streams, and says what it saw between two moments.

A process of its own: nothing that the benchmark does may hold it up. It prints ``ready`` when every stream grows;
then it takes a line with two Unix times and answers with a line of JSON, until its input ends:

    python -m benchmarks.loop.observer PORT KEY SESSION_ID…
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import sys
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from benchmarks.listeners import Listener, attaching, listen
from benchmarks.loop.rates import FEED_RATE

ASK_EVERY_SECONDS = 0.02
#: events after which a stream counts as being fed
FED_EVENTS = 3
EVENT_EVERY_SECONDS = 1 / FEED_RATE
#: an answer that takes longer counts as none, and the next is asked for on a new connection
NO_ANSWER_SECONDS = 120.0
_PROBE = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """Between two moments; all times in milliseconds."""

    #: of every probe that was due
    health: list[float]
    #: between two events of a stream
    gaps: list[float]
    #: by how much this process woke too late for a probe, at worst: the machine's share of what it measures
    own_delay: float
    #: probes without an answer
    unanswered: int
    #: streams that have ended, which none should
    ended: int


class Prober:
    """One request at a time on one connection, asked when it is due."""

    def __init__(self, port: int) -> None:
        self._port = port
        #: when it was due, and how long it took (seconds)
        self.answers: list[tuple[float, float]] = []
        #: when it woke, and how much too late (seconds)
        self.delays: list[tuple[float, float]] = []
        self.failures: list[float] = []
        #: no question is on its way
        self.idle = asyncio.Event()
        self.idle.set()

    async def run(self) -> None:
        due = time.time()
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                self.failures.append(time.time())
                await asyncio.sleep(0.2)
                continue
            with contextlib.suppress(OSError, EOFError, TimeoutError, asyncio.IncompleteReadError):
                due = max(due, time.time())
                while True:
                    due = await self._ask(reader, writer, due)
            self.failures.append(time.time())
            self.idle.set()
            writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, due: float) -> float:
        """The question of this moment; when the next is due."""
        await asyncio.sleep(due - time.time())
        asked = time.time()
        self.idle.clear()
        self.delays.append((asked, asked - due))
        writer.write(_PROBE)
        async with asyncio.timeout(NO_ANSWER_SECONDS):
            await _read_response(reader)
        answered = time.time()
        self.idle.set()
        self.answers.append((asked, answered - asked))
        # Those that fell due meanwhile would have waited too: a long wait must not count as a single one.
        while (due := due + ASK_EVERY_SECONDS) <= answered:
            self.answers.append((due, answered - due))
        return due


async def _read_response(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, found, length = head.partition(b"content-length:")
    if found:
        await reader.readexactly(int(length.split(b"\r\n")[0]))
    else:
        await reader.readuntil(b"\r\n0\r\n\r\n")


class Watch:
    """The prober and the streams together."""

    def __init__(self, prober: Prober, streams: Sequence[Listener]) -> None:
        self._prober = prober
        self.streams = streams

    async def seen(self, start: float, end: float) -> Seen:
        """What overlaps the time from ``start`` to ``end``; waits for the answer to a question that is on its way."""
        prober = self._prober
        await prober.idle.wait()
        return Seen(
            health=[1000 * took for asked, took in prober.answers if asked <= end and asked + took >= start],
            gaps=[1000 * gap for stream in self.streams for gap in _gaps(stream, start, end)],
            own_delay=max((1000 * late for woke, late in prober.delays if start <= woke <= end), default=0.0),
            unanswered=sum(start <= when <= end for when in prober.failures),
            ended=sum(stream.ended.done() for stream in self.streams),
        )


def _gaps(stream: Listener, start: float, end: float) -> Iterator[float]:
    """Those that overlap the time, the one that lasts still included.

    As with the probes, an event that was due in a gap has waited from then on: a long gap is not a single one.
    """
    times = [*stream.received.values(), time.time()]
    first = max(bisect_left(times, start), 1)
    last = min(bisect_left(times, end), len(times) - 1)
    for before, after in itertools.pairwise(times[first - 1 : last + 1]):
        gap = after - before
        while gap > 0:
            yield gap
            # A gap that is a little long has no second event in it.
            gap = gap - EVENT_EVERY_SECONDS if gap >= 2 * EVENT_EVERY_SECONDS else 0


async def observe(port: int, key: str, session_ids: Sequence[str]) -> None:
    authorized = f"\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    requests = [attaching(session_id).removesuffix(b"\r\n\r\n") + authorized for session_id in session_ids]
    prober = Prober(port)
    watch = Watch(prober, await listen(port, requests))
    while not all(len(stream.received) >= FED_EVENTS for stream in watch.streams):  # noqa: ASYNC110  (they do not tell)
        await asyncio.sleep(ASK_EVERY_SECONDS)
    probing = asyncio.create_task(prober.run())
    questions = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(questions), sys.stdin)
    print("ready", flush=True)
    while line := await questions.readline():
        start, end = map(float, line.split())
        print(json.dumps(dataclasses.asdict(await watch.seen(start, end))), flush=True)
    probing.cancel()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(observe(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
