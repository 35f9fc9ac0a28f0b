"""Run sessions that wait in the database while this worker has a free slot, so that none depends on a message.

A message is fast but may be lost: the broker was emptied or is unavailable, or the worker that took the message died.
The database has every session that is queued or whose lease has expired. While all common slots are taken, all task
threads are busy too, and messages wait. Only the watch then finds callers that arrived meanwhile, and runs their
sessions in the reserved slots.
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
from sessions_app.models import ChatSession, ChatSessionQuerySet
from sessions_app.turns import Slot

log = logging.getLogger(__name__)

#: poll interval while only reserved slots are free; shorter, because callers entitled to one have nothing running
FULL_POLL_SECONDS = 0.1


class WorkerSlots(Protocol):
    """The worker, as the watch sees it."""

    name: str
    slots: threading.BoundedSemaphore
    reserved: dict[Slot, threading.BoundedSemaphore]

    @property
    def has_engine(self) -> bool: ...


class QueueWatch(threading.Thread):
    """Polls every ``QUEUE_POLL_SECONDS`` if a slot is free. Owns the threads that run the sessions it finds."""

    def __init__(self, worker: WorkerSlots, run: Callable[[Slot], None]) -> None:
        super().__init__(name="queue-watch", daemon=True)
        self._worker = worker
        self._run = run
        self._running: set[threading.Thread] = set()
        self._stopping = threading.Event()
        self._is_full = False

    def run(self) -> None:
        while not self._stopping.wait(self._pause_seconds):
            try:
                self.poll()
            except DatabaseError as exc:
                log.warning("the queue could not be read: %s", exc)
            except Exception:
                log.exception("the queue could not be read")
            finally:
                release_connections()

    @property
    def _pause_seconds(self) -> float:
        seconds: float = settings.QUEUE_POLL_SECONDS
        return min(seconds, FULL_POLL_SECONDS) if self._is_full else seconds

    def poll(self) -> None:
        """Start waiting sessions, at most one for each free slot."""
        self._running = {thread for thread in self._running if thread.is_alive()}
        self._is_full = False
        if not self._worker.has_engine:
            return
        waiting = ChatSession.objects.waiting_for(self._worker.name)
        if self._begin(Slot.COMMON, self._worker.slots, waiting):
            return
        for slot, free in self._worker.reserved.items():
            self._is_full |= self._begin(slot, free, waiting.for_slot(slot)) > 0

    def _begin(self, slot: Slot, free: threading.BoundedSemaphore, waiting: ChatSessionQuerySet) -> int:
        """Start waiting sessions in these slots. Returns how many slots were free."""
        taken = left = self._take(free)
        try:
            for _ in range(len(waiting.values_list("pk")[:taken]) if taken else 0):
                thread = threading.Thread(
                    target=self._run_and_give_back, args=(slot, free), name="found session", daemon=True
                )
                self._running.add(thread)
                thread.start()
                left -= 1
        finally:
            for _ in range(left):
                free.release()
        return taken

    def stop(self, timeout_seconds: float) -> None:
        """Stop polling, and wait for the threads that run sessions; a draining worker releases their sessions."""
        until = time.monotonic() + timeout_seconds
        self._stopping.set()
        if self.ident is not None:
            self.join(timeout_seconds)
        for thread in self._running:
            thread.join(max(0.0, until - time.monotonic()))

    @staticmethod
    def _take(free: threading.BoundedSemaphore) -> int:
        taken = 0
        while taken < settings.MAX_BATCH_SIZE and free.acquire(blocking=False):
            taken += 1
        return taken

    def _run_and_give_back(self, slot: Slot, free: threading.BoundedSemaphore) -> None:
        try:
            self._run(slot)
        finally:
            free.release()
