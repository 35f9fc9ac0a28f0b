"""One thread per process that adds the process's counts to the buckets.

Web server and worker each request it when they start. Where they are one process they share it, and the one that ends
last has the remaining counts written.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from django.db import Error

from sessions_app.db import release_connections
from sessions_app.history import buckets
from sessions_app.history.counting import Counts, counts
from sessions_app.models import ChatSession

log = logging.getLogger(__name__)

#: maximum delay of a figure, and the most that a killed process loses
WRITE_SECONDS = 10.0
#: maximum duration of the last write when a web process or a command ends
LAST_WRITE_SECONDS = 3.0


class HistoryWriter(threading.Thread):
    """Writes every ``WRITE_SECONDS`` until it is stopped, and once more then."""

    def __init__(self) -> None:
        super().__init__(name="history", daemon=True)
        self._stopping = threading.Event()
        self._written = counts()

    def run(self) -> None:
        while not self._stopping.wait(WRITE_SECONDS):
            self.write()
        self.write()

    def write(self) -> None:
        """Add the counts since the last write. While the database does not answer, they are kept for the next write."""
        try:
            now = counts()
            new = {name: count - self._written.get(name, 0) for name, count in now.items()}
            buckets.add({**new, **_queue()})
            self._written = now
        except Error as exc:
            log.warning("the history's figures could not be written and are kept for the next write: %s", exc)
        except Exception:
            log.exception("the history's figures could not be written")
        finally:
            release_connections()

    def stop(self, timeout_seconds: float) -> None:
        self._stopping.set()
        self.join(timeout_seconds)


def _queue() -> Counts:
    """The length of the queue is no count. As a sum and a number of samples it can be added like one."""
    return {"queue": ChatSession.objects.queued().count(), "queue_samples": 1}


_lock = threading.Lock()
_users = 0
_writer: HistoryWriter | None = None


def start_writing() -> HistoryWriter:
    """Have this process's counts written until ``stop_writing`` was called as often. Returns the thread."""
    global _users, _writer
    with _lock:
        _users += 1
        if _writer is None:
            _writer = HistoryWriter()
            _writer.start()
        return _writer


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """For a command, a process of its own: what it counts is in the history when this context ends."""
    start_writing()
    try:
        yield
    finally:
        stop_writing(LAST_WRITE_SECONDS)


def stop_writing(timeout_seconds: float) -> None:
    """The last caller has the remaining counts written, and waits for that."""
    global _users, _writer
    with _lock:
        _users -= 1
        if _users or _writer is None:
            return
        writer, _writer = _writer, None
    writer.stop(timeout_seconds)
