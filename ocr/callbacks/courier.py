"""The thread of a worker that sends callbacks, several at once, so that nothing else waits for their receivers.

While it waits for them, or for callbacks to become due, it holds no connection to the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import Counter, deque
from types import TracebackType
from typing import Any, Self

from django.conf import settings
from django.db import Error, InterfaceError, OperationalError

from inference.worker.side_threads import StoppableThread
from ocr.callbacks.models import KtpCallback
from ocr.callbacks.sending import Attempt, claim, hand_back, note, send
from sessions_app.db import release_connections
from sessions_app.signals import swept

log = logging.getLogger(__name__)

#: callbacks that a worker sends at once
PLACES = 20


class Deliveries:
    """The callbacks that are being sent. Its event loop runs only within ``wait``; the thread is free in between."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._under_way: dict[asyncio.Task[Attempt], KtpCallback] = {}
        #: what came of those that have ended, until it is stored
        self._ended: deque[tuple[KtpCallback, Attempt]] = deque()
        self._woken = asyncio.Event()

    def __enter__(self) -> Self:
        self._loop = self._runner.get_loop()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Break off what is being sent, and hand it back."""
        try:
            self.note_ended()
        finally:
            self._runner.close()
        hand_back(list(self._under_way.values()))

    def __len__(self) -> int:
        return len(self._under_way)

    def start_due(self) -> int:
        """Begin to send what is due and has a place; how many."""
        before = len(self)
        hosts = Counter(callback.host for callback in self._under_way.values())
        for callback in claim(PLACES - before, hosts):
            self._under_way[self._loop.create_task(send(callback))] = callback
        return len(self) - before

    def wait(self, seconds: float) -> None:
        """Until one of them has ended, until ``wake``, or for so long."""
        self._runner.run(self._wait(seconds))

    async def _wait(self, seconds: float) -> None:
        woken = asyncio.create_task(self._woken.wait())
        await asyncio.wait([woken, *self._under_way], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        woken.cancel()
        self._woken.clear()

    def wake(self) -> None:
        """End ``wait``, from another thread."""
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(self._woken.set)

    def note_ended(self) -> None:
        """Store what came of those that have ended. While the database is away it is kept, and the error raised."""
        for task in [task for task in self._under_way if task.done()]:
            self._ended.append((self._under_way.pop(task), task.result()))
        while self._ended:
            callback, attempt = self._ended[0]
            try:
                note(callback, attempt)
            except (InterfaceError, OperationalError):
                raise
            except Exception:
                # Not the end of the others: this one is sent once more, as its row says.
                log.exception("callback %s: its attempt was not noted", callback.pk)
            self._ended.popleft()


class Courier(StoppableThread):
    """Sends until it is stopped. It looks for callbacks after each sweep of its process, which completes readings."""

    def __init__(self) -> None:
        super().__init__(name="callbacks", daemon=True)
        self._stopping = threading.Event()
        self._deliveries: Deliveries | None = None

    def run(self) -> None:
        swept.connect(self._wake)
        try:
            with Deliveries() as self._deliveries:
                while not self._stopping.is_set():
                    self._pass(self._deliveries)
                    self._deliveries.wait(settings.SWEEP_SECONDS)
        except Error as exc:
            log.warning("the callbacks that were being sent could not be handed back: %s", exc)
        finally:
            swept.disconnect(self._wake)
            release_connections()

    def _pass(self, deliveries: Deliveries) -> None:
        try:
            deliveries.note_ended()
            deliveries.start_due()
        except Error as exc:
            log.warning("no callbacks could be sent, which will be retried: %s", exc)
        except Exception:
            log.exception("no callbacks could be sent, which will be retried")
        finally:
            release_connections()

    def _wake(self, **kwargs: Any) -> None:
        if self._deliveries is not None:
            self._deliveries.wake()

    def stop(self, timeout_seconds: float) -> None:
        self._stopping.set()
        self._wake()
        self.join(timeout_seconds)
