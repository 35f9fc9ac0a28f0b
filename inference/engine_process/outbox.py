"""Sends messages to the other process: on a thread of its own, or on that of a caller who may wait."""

from __future__ import annotations

import collections
import logging
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

from inference.engine_process.messages import send

log = logging.getLogger(__name__)


class Outbox:
    """Sends messages in order. Those that are waiting are sent in one batch.

    ``put`` never waits. ``send`` and ``flush`` wait for a busy reader, and wake no other thread: a worker's session
    sends its own requests, and the model thread what it has generated in a step.
    """

    def __init__(self, connection: Connection, on_broken: Callable[[], None]) -> None:
        """``on_broken`` is called when messages cannot be sent although the other process runs."""
        self._connection = connection
        self._on_broken = on_broken
        self._messages: collections.deque[object] = collections.deque()
        self._has_messages = threading.Event()
        self._sending = threading.Lock()
        self._is_closed = False
        self._flusher: int | None = None
        self._thread = threading.Thread(target=self._run, name="engine-outbox", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, message: object) -> None:
        """May be called from any thread, and returns at once."""
        self._messages.append(message)
        if threading.get_ident() != self._flusher:
            self._has_messages.set()

    def send(self, message: object) -> None:
        """Send this after all that are waiting, on the calling thread."""
        self._messages.append(message)
        self._send()

    def flush(self) -> None:
        """Send all waiting messages, on the calling thread. Its later calls of ``put`` then wake no other thread."""
        self._flusher = threading.get_ident()
        self._send()

    def close(self) -> None:
        """Send nothing more, and close the connection."""
        self._is_closed = True
        self._has_messages.set()
        with self._sending:
            self._connection.close()

    def _run(self) -> None:
        while not self._is_closed:
            self._has_messages.wait()
            self._has_messages.clear()
            self._send()

    def _send(self) -> None:
        with self._sending:
            messages = [self._messages.popleft() for _ in range(len(self._messages))]
            if not messages or self._is_closed:
                return
            try:
                send(self._connection, messages)
            except OSError:
                self._is_closed = True  # The other process has ended. Whoever receives from it sees that.
            except Exception:
                log.exception("messages could not be sent to the other process")
                self._on_broken()
