"""Claim waiting sessions for the free slots of this worker, many in one statement, and run each in a thread of its own.

A message wakes the watch at once. It may be lost: the broker was emptied or is unavailable, or the worker that took it
died. The database has every session that is queued or whose lease has expired, so the watch also polls. While all
common slots are taken, only a poll finds callers that arrived meanwhile, and runs their sessions in the reserved slots.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from django.conf import settings
from django.db import Error as DatabaseError

from sessions_app.db import release_connections
from sessions_app.models import ChatSession
from sessions_app.store import transitions
from sessions_app.store.queue import send
from sessions_app.turns import Slot

log = logging.getLogger(__name__)

#: poll interval while only reserved slots are free; shorter, because callers entitled to one have nothing running
FULL_POLL_SECONDS = 0.1

#: in a message that is about no session in particular
NO_SESSION = ""
#: claims sessions for that many slots of this kind
Claim = Callable[[Slot, int], Sequence[ChatSession]]
#: runs a claimed session to its end
Run = Callable[[ChatSession], None]


class WorkerSlots(Protocol):
    """The worker, as the watch sees it."""

    name: str
    slots: threading.BoundedSemaphore
    reserved: dict[Slot, threading.BoundedSemaphore]

    @property
    def has_engine(self) -> bool: ...


class QueueWatch(threading.Thread):
    """Claims when it is woken, and every ``QUEUE_POLL_SECONDS``. Owns the threads that run the sessions."""

    def __init__(self, worker: WorkerSlots, claim: Claim, run: Run) -> None:
        super().__init__(name="queue-watch", daemon=True)
        self._worker = worker
        self._claim = claim
        self._run = run
        self._running: set[threading.Thread] = set()
        self._woken = threading.Event()
        self._is_notified = False
        self._stopping = False
        self._is_full = False
        #: the last claim filled every slot, so more sessions may be waiting for the next slot that becomes free
        self._has_backlog = False

    def wake(self) -> None:
        """A message says that sessions are waiting: claim now. Called from any thread."""
        self._is_notified = True
        self._woken.set()

    def run(self) -> None:
        while True:
            is_woken = self._woken.wait(self._pause_seconds)
            self._woken.clear()
            if self._stopping:
                return
            if is_notified := self._is_notified:
                self._is_notified = False
            try:
                self.poll(is_woken=is_woken)
            except DatabaseError as exc:
                log.warning("the queue could not be read: %s", exc)
            except Exception:
                log.exception("the queue could not be read")
            finally:
                release_connections()
            if is_notified and self._has_backlog:
                # The message may be about more sessions than fit here. Another worker looks for them, or this one when
                # a slot is free again.
                send(NO_SESSION)

    @property
    def _pause_seconds(self) -> float:
        seconds: float = settings.QUEUE_POLL_SECONDS
        return min(seconds, FULL_POLL_SECONDS) if self._is_full else seconds

    def poll(self, *, is_woken: bool = False) -> None:
        """Claim and start waiting sessions, at most one for each free slot.

        Unless it ``is_woken``, it first looks whether any wait, with a query that locks nothing.
        """
        self._running = {thread for thread in self._running if thread.is_alive()}
        self._is_full = False
        if not self._worker.has_engine:
            return
        # Again after a claim that filled every slot: one that became free before ``_has_backlog`` was set woke nobody.
        while (left := self._begin(Slot.COMMON, self._worker.slots, is_known=is_woken)) is not None:
            self._has_backlog = not left
            if left:
                return
        for slot, free in self._worker.reserved.items():
            self._is_full |= self._begin(slot, free, is_known=False) is not None

    def _begin(self, slot: Slot, free: threading.BoundedSemaphore, *, is_known: bool) -> int | None:
        """Start waiting sessions in these slots. Returns how many slots are still free, None when none was."""
        taken = left = self._take(free)
        claimed: deque[ChatSession] = deque()
        try:
            if taken and (is_known or ChatSession.objects.waiting_for(self._worker.name).for_slot(slot).exists()):
                claimed.extend(self._claim(slot, taken))
            while claimed:
                thread = threading.Thread(
                    target=self._run_and_give_back, args=(claimed[0], free), name="session", daemon=True
                )
                thread.start()
                self._running.add(thread)
                claimed.popleft()
                left -= 1
        finally:
            for _ in range(left):
                free.release()
            # No thread could be started for these, and their leases would only expire.
            for session in claimed:
                transitions.release(session.pk, session.attempt)
        return left if taken else None

    def stop(self, timeout_seconds: float) -> None:
        """Claim nothing more, and wait for the threads that run sessions; a draining worker releases their sessions."""
        until = time.monotonic() + timeout_seconds
        self._stopping = True
        self._woken.set()
        if self.ident is not None:
            self.join(timeout_seconds)
        for thread in self._running:
            thread.join(max(0.0, until - time.monotonic()))

    @staticmethod
    def _take(free: threading.BoundedSemaphore) -> int:
        taken = 0
        while free.acquire(blocking=False):
            taken += 1
        return taken

    def _run_and_give_back(self, session: ChatSession, free: threading.BoundedSemaphore) -> None:
        try:
            self._run(session)
        finally:
            free.release()
            if self._has_backlog:
                self._woken.set()
