"""The server under test in both shapes, its streams fed, and what its processes take of memory."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

import psutil

from benchmarks.loop.bodies import KEY, NEIGHBOUR_KEY
from benchmarks.loop.rates import FED_NAME, FEED_RATE, FEED_SECONDS
from benchmarks.servers import feeder, own_redis
from tests import services
from tests.live.stack import EmbeddedStack, ScaledStack, Stack

#: reading shared pages apart takes the system milliseconds a process
SAMPLE_SECONDS = {"rss": 0.02, "pss": 0.1}
#: a process of the server's own that was started meanwhile is found so soon
LOOK_FOR_CHILDREN_SECONDS = 0.5
#: differences from a deployment: a session that is not fed while the server is blocked must not be taken over
SETTINGS: dict[str, object] = {"API_KEYS": f"{KEY},{NEIGHBOUR_KEY}", "SESSION_LEASE_SECONDS": 600}


class FedEmbeddedStack(EmbeddedStack):
    #: ``manage.py`` with a feeder
    program = "benchmarks.loop.fed"

    def start(self) -> Self:
        self.launch("serve", "-m", self.program, "serve", "--port", str(self.port))
        return self.wait_for_health("modelReady")


@contextlib.contextmanager
def serving(
    folder: Path, model: Path, *, streams: int, is_scaled: bool, embedded: type[FedEmbeddedStack] = FedEmbeddedStack
) -> Iterator[Stack]:
    """A server whose sessions ``loop-0``, ``loop-1`` … grow."""
    with contextlib.ExitStack() as running:
        stack: EmbeddedStack | ScaledStack
        if is_scaled:
            redis_url = running.enter_context(own_redis(folder / "redis"))
            stack = ScaledStack(folder, model, postgres_url=services.POSTGRES_URL, redis_url=redis_url, **SETTINGS)
        else:
            stack = embedded(folder, model, **SETTINGS)
            stack.env["FED_SESSIONS"] = str(streams)
        running.callback(_stop, stack)
        stack.start()
        if is_scaled:
            feeder(stack, "open", FED_NAME, streams)
            stack.launch(
                "feeder", "-m", "benchmarks.feeder", "feed", FED_NAME, *map(str, (streams, FEED_RATE, FEED_SECONDS))
            )
        yield stack


def _stop(stack: Stack) -> None:
    """Also a server that is still at what was asked of it, and does not stop by itself: it is killed then."""
    with contextlib.suppress(AssertionError):
        stack.stop()
    for process in stack.processes.values():
        if process.is_running():
            process.kill()


class Memory:
    """Memory of the server's processes in sum, with its peak since it was last asked to forget it.

    ``rss`` counts a page in each process that has it, ``pss`` once in all of them. A server that takes more than
    ``limit_mb`` is killed with all its processes: the machine belongs to others too.
    """

    def __init__(self, stack: Stack, *, kind: Literal["rss", "pss"] = "rss", limit_mb: float | None = None) -> None:
        self._kind = kind
        self._limit_mb = limit_mb
        self.is_over_limit = False
        # The feeder of the scaled server is the benchmark's.
        self._parents = [psutil.Process(process.pid) for name, process in stack.processes.items() if name != "feeder"]
        self._processes: list[psutil.Process] = []
        self._looked_at = 0.0
        self._stopping = threading.Event()
        self.peak_mb = 0.0
        self._thread = threading.Thread(target=self._sample, name="memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self._thread.join()

    def forget_peak(self) -> float:
        """What it is now, in MB; the peak begins here."""
        self.peak_mb = self.now_mb()
        return self.peak_mb

    def now_mb(self) -> float:
        if time.monotonic() - self._looked_at > LOOK_FOR_CHILDREN_SECONDS:
            self._processes = [*self._parents]
            for parent in self._parents:
                with contextlib.suppress(psutil.Error):
                    self._processes += parent.children(recursive=True)
            self._looked_at = time.monotonic()
        total = 0
        for process in list(self._processes):
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss if self._kind == "rss" else process.memory_full_info().pss
        return total / 10**6

    def _sample(self) -> None:
        while not self._stopping.wait(SAMPLE_SECONDS[self._kind]):
            now = self.now_mb()
            self.peak_mb = max(self.peak_mb, now)
            if self._limit_mb is not None and now > self._limit_mb:
                self.is_over_limit = True
                for process in list(self._processes):
                    with contextlib.suppress(psutil.Error):
                        process.kill()
                return
