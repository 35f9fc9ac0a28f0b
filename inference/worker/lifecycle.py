"""The lifecycle of a worker: get an engine in the background, report to the database, run sessions, release them.

A process has one worker, under Celery (``inference.tasks``) or beside the web server (``inference.worker.embedded``).
"""

from __future__ import annotations

import functools
import gc
import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError
from django.utils import timezone

from inference.backends.base import SessionEngine
from inference.backends.choice import engine_source
from inference.metrics import EngineReader, generation_tokens
from inference.models import ModelWorker
from inference.worker.chunk_writer import ChunkWriter
from inference.worker.load import LoadReader
from inference.worker.queue_watch import Claim, QueueWatch, Run
from inference.worker.refusals import refuse_queued
from inference.worker.side_threads import SideThreads, added_threads
from sessions_app.db import release_connections
from sessions_app.history import counting
from sessions_app.history.writer import start_writing, stop_writing
from sessions_app.log_context import name_worker
from sessions_app.store.sweeper import Sweeper
from sessions_app.turns import Slot

log = logging.getLogger(__name__)

#: maximum time to release one session that the engine gave up, when the worker is not stopping
RELEASE_SECONDS = 5.0
#: rows of workers are deleted after this long without a heartbeat
FORGET_SECONDS = 86_400
#: minimum interval between writes of the worker's row; loading progress is reported often
ROW_SECONDS = 0.2


class Worker:
    """The engine, the chunk writer and the side threads of this process."""

    def __init__(self) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self.writer = ChunkWriter()
        #: set when loading has finished, successfully or not
        self.settled = threading.Event()
        #: set when this process stops and releases its sessions
        self.draining = threading.Event()
        self.load_error: str | None = None
        #: set when a side thread has ended unexpectedly; the process then stops
        self.has_failed = False
        #: one slot for each session that may run here, held from before the claim until the run ends; the engine
        #: knows how many, and nothing is claimed without it
        self.slots = threading.BoundedSemaphore(0)
        #: extra slots, used only when all common slots are taken
        self.reserved = reserved_slots()
        self._stop_by: float | None = None
        self._queue_watch: QueueWatch | None = None
        self._controller: Any = None
        self._has_left_queue = False
        #: an operator has asked this worker to drain: it claims no more sessions, and the running ones continue
        self._is_closed = False
        self._engine: SessionEngine | None = None
        self._source = engine_source()
        self._engine_reader = EngineReader()
        self._load_reader = LoadReader()
        self._progress = ""
        self._load: dict[str, Any] = {}
        self._sweeper = Sweeper()
        #: threads of other apps
        self._added = added_threads()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._changed = threading.Event()

    @property
    def engine(self) -> SessionEngine:
        """The running engine; raises ``RuntimeError`` before ``settled`` or when there is none."""
        if self._engine is None:
            raise RuntimeError("the model is not loaded")
        return self._engine

    @property
    def state(self) -> ModelWorker.State:
        if self.draining.is_set():
            return ModelWorker.State.STOPPED
        if self.load_error is not None:
            return ModelWorker.State.FAILED
        return ModelWorker.State.READY if self.settled.is_set() else ModelWorker.State.LOADING

    @property
    def has_engine(self) -> bool:
        """Whether sessions may be claimed here: there is an engine, and no operator has asked for a drain."""
        return self.state == ModelWorker.State.READY and not self._is_closed

    def start(self, controller: Any, claim: Claim, run: Run) -> None:
        """Start the side threads and get an engine.

        ``controller`` is Celery's: its consumer leaves the queue while there is no engine. ``claim`` claims sessions
        for slots that are already taken, and ``run`` runs one of them to its end.
        """
        self._controller = controller
        self._queue_watch = QueueWatch(self, claim, run)
        name_worker(self.name)
        log.info(
            "worker %s of Sambung %s starts with the model %s", self.name, settings.VERSION, settings.SERVED_MODEL_NAME
        )
        threads = (self.writer, self._heart, self._sweeper, self._queue_watch, *self._added)
        side_threads = SideThreads(threads, stopping=self.draining, on_end=self._fail)
        side_threads.start()
        side_threads.watch(start_writing())
        self._source.start(self)
        side_threads.watch(self._source)

    def look_for_sessions(self) -> None:
        """Sessions are waiting: claim as many as there are free slots. Returns at once."""
        if self._queue_watch is not None:
            self._queue_watch.wake()

    def reload(self) -> None:
        """Load the model again, if it could not be loaded. Safe in a signal handler."""
        self._source.reload()

    def drain(self) -> None:
        """Stop claiming sessions and release the running ones. Returns at once."""
        if self._stop_by is None:
            self._stop_by = time.monotonic() + settings.WORKER_STOP_SECONDS
        self.draining.set()
        self._changed.set()
        self.settled.set()
        self._source.stop(self.seconds_left)

    @property
    def seconds_left(self) -> float:
        """Time left for all steps of a stop together; the time for one release when the worker is not stopping."""
        return RELEASE_SECONDS if self._stop_by is None else max(0.0, self._stop_by - time.monotonic())

    def stop(self) -> None:
        """Drain, commit what is pending, and record that this worker has stopped. Celery's consumer must have ended."""
        self.drain()
        for thread in self._added:
            thread.stop(0)  # They end while sessions are released, and begin nothing more.
        if self._queue_watch is not None:
            self._queue_watch.stop(self.seconds_left)
        self.writer.stop(self.seconds_left)
        self._sweeper.stop(self.seconds_left)
        for thread in self._added:
            thread.stop(self.seconds_left)
        self._heart.join(self.seconds_left)
        stop_writing(self.seconds_left)
        log.info("worker %s has stopped", self.name)

    def _fail(self) -> None:
        """Stop the process as SIGTERM does, with an exit status that says that it failed."""
        self.has_failed = True
        os.kill(os.getpid(), signal.SIGTERM)

    # --- Called by the engine's source ---

    def engine_pending(self, progress: str) -> None:
        self._progress = progress[:255]
        # Clear ``settled`` before ``load_error``. Otherwise a task could see ``settled`` set and no load error, and
        # claim a session.
        if not self.draining.is_set():
            self.settled.clear()
        self.load_error = None
        if self.draining.is_set():
            # A drain began in between. Tasks that wait for ``settled`` must not wait for ever.
            self.settled.set()
        self._changed.set()

    def engine_ready(self, engine: SessionEngine) -> None:
        if self._engine is None:
            self.slots = threading.BoundedSemaphore(engine.max_sessions)
        self._engine = engine
        # A full collection scans the objects of all modules and pauses all threads. A request with ten thousand values
        # sets one off. Freeze these objects: they live as long as the process.
        gc.collect()
        gc.freeze()
        self._progress = ""
        self.load_error = None
        self.settled.set()
        self._changed.set()

    def engine_failed(self, reason: str) -> None:
        if self.draining.is_set():
            return  # Loading was stopped. Another worker, or the next start, takes the sessions that wait.
        self._progress = ""
        self.load_error = reason
        self.settled.set()
        self._changed.set()

    # --- The heartbeat ---

    def _beat(self) -> None:
        try:
            while not self.draining.is_set():
                self._changed.clear()
                self._unless_database_is_away(self._report)
                if not self.draining.wait(ROW_SECONDS):
                    self._changed.wait(settings.WORKER_HEARTBEAT_SECONDS)
            self._unless_database_is_away(self._write_row)
        except Exception:
            # A bug in this code, which every beat would repeat. ``SideThreads`` sees that this thread has ended.
            log.exception("the heartbeat failed")

    def _unless_database_is_away(self, step: Callable[[], None]) -> None:
        try:
            step()
        except DatabaseError as exc:
            log.warning("the heartbeat could not be written: %s", exc)
        finally:
            release_connections()

    def _report(self) -> None:
        stats = self._engine.stats() if self._engine is not None else None
        if stats is not None:
            self._engine_reader.read(stats)
        self._load = self._load_reader.read(stats, counting.total(generation_tokens))
        self._write_row()
        self._join_or_leave_queue()
        if self.load_error is not None:
            refuse_queued(self.load_error)
            self._take_reload_request()

    def _write_row(self) -> None:
        row, _ = ModelWorker.objects.update_or_create(
            name=self.name,
            defaults={
                "model": settings.SERVED_MODEL_NAME,
                "state": self.state,
                "progress": self._progress,
                "error": self.load_error or "",
                "running": self.writer.running,
                "load": {} if self.draining.is_set() else self._load,
                "vision": self._engine.vision.to_json() if self._engine and self._engine.vision else {},
                "heartbeat_at": timezone.now(),
            },
        )
        ModelWorker.objects.gone(FORGET_SECONDS).delete()
        if row.drain != self._is_closed:
            self._is_closed = row.drain
            log.info("worker %s takes %s sessions", self.name, "no more" if row.drain else "again")

    def _take_reload_request(self) -> None:
        """Load the model again if an operator has asked for it."""
        if ModelWorker.objects.filter(pk=self.name, try_again=True).update(try_again=False):
            self.reload()

    def _join_or_leave_queue(self) -> None:
        """Leave the queue while this worker cannot run sessions, so that other workers get the messages.

        This is checked at every beat, because the consumer starts later than the worker and is replaced with each
        connection to the broker.
        """
        consumer = getattr(self._controller, "consumer", None)
        tasks = getattr(consumer, "task_consumer", None)
        if consumer is None or tasks is None:
            return
        name = settings.CELERY_TASK_DEFAULT_QUEUE
        takes_part = tasks.consuming_from(name)
        stays_out = self.load_error is not None or self._is_closed
        if stays_out and takes_part:
            self._has_left_queue = True
            consumer.call_soon(consumer.cancel_task_queue, name)
        elif not stays_out and self._has_left_queue and not takes_part:
            consumer.call_soon(consumer.add_task_queue, name)


def reserved_slots() -> dict[Slot, threading.BoundedSemaphore]:
    """One of ``RESERVED_SLOTS`` for cards, the others for callers without a running session."""
    counts = {Slot.CARD: min(settings.RESERVED_SLOTS, 1), Slot.NEWCOMER: max(settings.RESERVED_SLOTS - 1, 0)}
    return {slot: threading.BoundedSemaphore(count) for slot, count in counts.items() if count}


@functools.cache
def this_worker() -> Worker:
    """The worker of this process, made on the first call."""
    return Worker()
