"""Runs jobs in steps, so that long jobs do not delay short ones."""

from __future__ import annotations

import enum
import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable, Generator


class Lane(enum.Enum):
    """The kind of a step. Steps of one lane never wait for those of another."""

    #: chat template and tokenizing; a few milliseconds per step
    TEXT = "text"
    #: resizing one image or video, which may take seconds
    MEDIA = "media"
    #: compiling a grammar, which may take a second
    GRAMMAR = "grammar"


Work = Generator[Lane, None, None]

#: threads of each lane: text steps are short, and media steps must not starve the model thread
_THREADS = {Lane.TEXT: 1, Lane.MEDIA: max(2, min(4, (os.cpu_count() or 1) // 2)), Lane.GRAMMAR: 1}


class Lanes:
    """Schedules the steps of many jobs fairly: jobs with the fewest steps go first, then those that arrived first.

    A job is a generator that must not raise. It yields the lane of its next step; the first step is in ``Lane.TEXT``.
    """

    def __init__(self, name: str, *, on_start: Callable[[], None] | None = None) -> None:
        """Each thread first calls ``on_start``, if given."""
        self._on_start = on_start
        self._threads = [
            threading.Thread(target=self._run, args=(lane,), name=f"{name}-{lane.value}-{number}", daemon=True)
            for lane, count in _THREADS.items()
            for number in range(count)
        ]
        self._numbers = itertools.count()
        # Protects the three attributes below, and wakes the threads.
        self._changed = threading.Condition()
        #: heap of (steps taken, number, job) for each lane
        self._waiting: dict[Lane, list[tuple[int, int, Work]]] = {lane: [] for lane in Lane}
        self._started = self._stopping = False

    def submit(self, work: Work) -> None:
        """Schedule a job; the first call starts the threads. After ``stop`` the job is closed instead."""
        with self._changed:
            if not (self._started or self._stopping):
                self._started = True
                for thread in self._threads:
                    thread.start()
        self._put(Lane.TEXT, (0, next(self._numbers), work))

    def stop(self, timeout_seconds: float) -> bool:
        """Run no more steps, close unfinished jobs, and wait for the threads. Returns whether they ended in time.

        May be called again.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            waiting = [entry for entries in self._waiting.values() for entry in entries]
            for entries in self._waiting.values():
                entries.clear()
        for _, _, work in waiting:
            work.close()
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, lane: Lane) -> None:
        if self._on_start is not None:
            self._on_start()
        while (entry := self._next(lane)) is not None:
            steps, number, work = entry
            onto = next(work, None)
            if onto is not None:
                self._put(onto, (steps + 1, number, work))

    def _next(self, lane: Lane) -> tuple[int, int, Work] | None:
        with self._changed:
            while not (self._waiting[lane] or self._stopping):
                self._changed.wait()
            return None if self._stopping else heapq.heappop(self._waiting[lane])

    def _put(self, lane: Lane, entry: tuple[int, int, Work]) -> None:
        with self._changed:
            stopping = self._stopping
            if not stopping:
                heapq.heappush(self._waiting[lane], entry)
                self._changed.notify_all()
        if stopping:
            entry[2].close()
