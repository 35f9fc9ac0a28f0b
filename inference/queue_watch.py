"""Runs what waits in the database while this worker has room, so that no session depends on a message.

A message is the quick way, and may be lost: the broker is emptied or away, or the worker that took it died. What is
queued, or whose worker is silent, is in the database for all to see.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from django.conf import settings
from django.db import Error as DatabaseError

from sessions_app.db import release_connections
from sessions_app.models import ChatSession

log = logging.getLogger(__name__)


class Room(Protocol):
    """The worker, as the watch sees it."""

    name: str
    slots: threading.BoundedSemaphore

    @property
    def has_engine(self) -> bool: ...


class QueueWatch(threading.Thread):
    """Looks every ``QUEUE_POLL_SECONDS``, and only while a slot is free. Owns the threads that run what it finds."""

    def __init__(self, room: Room, run: Callable[[], None]) -> None:
        super().__init__(name="queue-watch", daemon=True)
        self._room = room
        self._run = run
        self._running: set[threading.Thread] = set()
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.wait(settings.QUEUE_POLL_SECONDS):
            try:
                self.look()
            except DatabaseError as exc:
                log.warning("the queue could not be read: %s", exc)
            except Exception:
                log.exception("the queue could not be read")
            finally:
                release_connections()

    def look(self) -> None:
        """Begin to run what waits, as far as slots are free."""
        self._running = {thread for thread in self._running if thread.is_alive()}
        slots = self._take_free_slots()
        try:
            for _ in range(self._waiting(slots) if slots else 0):
                thread = threading.Thread(target=self._run_and_give_back, name="found session", daemon=True)
                self._running.add(thread)
                thread.start()
                slots -= 1
        finally:
            for _ in range(slots):
                self._room.slots.release()

    def stop(self, timeout_seconds: float) -> None:
        """Look no more, and wait for what runs: it hands itself back."""
        until = time.monotonic() + timeout_seconds
        self._stopping.set()
        if self.ident is not None:
            self.join(timeout_seconds)
        for thread in self._running:
            thread.join(max(0.0, until - time.monotonic()))

    def _take_free_slots(self) -> int:
        taken = 0
        while self._room.has_engine and taken < settings.MAX_BATCH_SIZE and self._room.slots.acquire(blocking=False):
            taken += 1
        return taken

    def _waiting(self, most: int) -> int:
        return len(ChatSession.objects.waiting_for(self._room.name).values_list("pk")[:most])

    def _run_and_give_back(self) -> None:
        try:
            self._run()
        finally:
            self._room.slots.release()
