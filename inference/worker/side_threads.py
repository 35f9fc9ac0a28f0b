"""Watch the threads that a worker depends on. When one ends unexpectedly, log it and stop the worker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

log = logging.getLogger(__name__)

#: interval between two checks of the threads
POLL_SECONDS = 1.0


class Watched(Protocol):
    """A thread, or an object that owns one."""

    @property
    def name(self) -> str: ...

    def is_alive(self) -> bool: ...


class StoppableThread(threading.Thread):
    """A thread that another app adds to the workers: started, watched and joined with their own."""

    def stop(self, timeout_seconds: float) -> None:
        """Have it end, and wait for that for ``timeout_seconds`` at most. May be called again, to wait longer."""
        raise NotImplementedError


_added: list[Callable[[], StoppableThread]] = []


def add_to_workers(make: Callable[[], StoppableThread]) -> None:
    """Give every worker of this process, when it starts, the thread that ``make`` returns."""
    _added.append(make)


def added_threads() -> list[StoppableThread]:
    """New threads, those that the other apps add."""
    return [make() for make in _added]


class SideThreads(threading.Thread):
    """Starts these threads, and checks until ``stopping`` is set that they are alive.

    A worker without one of them fails silently: without its heartbeat it keeps running sessions but is shown as gone,
    and without the chunk writer its sessions never end. A stopped worker is restarted by its supervisor.
    """

    def __init__(
        self, threads: Sequence[threading.Thread], *, stopping: threading.Event, on_end: Callable[[], None]
    ) -> None:
        """``on_end`` is called once, from this thread, when one of them has ended unexpectedly."""
        super().__init__(name="side-threads", daemon=True)
        self._threads = threads
        self._watched: list[Watched] = list(threads)
        self._stopping = stopping
        self._on_end = on_end

    def start(self) -> None:
        for thread in self._threads:
            thread.start()
        super().start()

    def watch(self, other: Watched) -> None:
        """Watch one more thread, which the caller has already started."""
        self._watched.append(other)

    def run(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            if ended := [watched.name for watched in list(self._watched) if not watched.is_alive()]:
                log.critical("this worker stops, because these threads have ended: %s", ", ".join(ended))
                self._on_end()
                return
