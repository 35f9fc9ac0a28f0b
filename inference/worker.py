"""A worker process's life: load the model in the background, report to the database, run sessions, hand them back.

One of these a process, under Celery (``inference.tasks``) or beside the web server (``inference.embedded``).
"""

from __future__ import annotations

import functools
import logging
import os
import secrets
import socket
import threading

from celery import current_app
from django.conf import settings
from django.db import Error as DatabaseError
from django.utils import timezone

from inference.chunk_writer import ChunkWriter
from inference.engine.engine import Engine
from inference.engine.errors import EngineError
from inference.engine.loading import LoadedModel
from inference.engine_start import start_engine
from inference.models import ModelWorker
from inference.refusals import refuse_queued
from sessions_app import queue
from sessions_app.db import release_connections
from sessions_app.sweeper import Sweeper

log = logging.getLogger(__name__)

#: how long a stop may take: the running steps, the last commit, the hand-back
STOP_SECONDS = 5.0
#: rows of workers that went without a word are removed after a day
FORGET_SECONDS = 86_400


class Worker:
    """The engine, the writer and the reports of this process."""

    def __init__(self) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self.writer = ChunkWriter()
        #: set once the model is loaded or has failed to
        self.settled = threading.Event()
        #: set when this process hands its sessions back
        self.draining = threading.Event()
        self.load_error: str | None = None
        self.fingerprint: dict[str, str] = {}
        #: sessions whose message came when this worker could not run them any more
        self._stranded: list[str] = []
        self._node_name = ""
        self._engine: Engine | None = None
        self._progress = ""
        self._sweeper = Sweeper()
        self._loader = threading.Thread(target=self._load, name="model-loader", daemon=True)
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._changed = threading.Event()

    @property
    def engine(self) -> Engine:
        """The running engine; raises ``RuntimeError`` before ``settled`` or when loading failed."""
        if self._engine is None:
            raise RuntimeError("the model is not loaded")
        return self._engine

    @property
    def state(self) -> ModelWorker.State:
        if self.draining.is_set():
            return ModelWorker.State.STOPPED
        if self.load_error is not None:
            return ModelWorker.State.FAILED
        return ModelWorker.State.READY if self._engine is not None else ModelWorker.State.LOADING

    def start(self, node_name: str) -> None:
        """``node_name`` is Celery's name of this process, by which its consumer can be told to stop."""
        self._node_name = node_name
        log.info("worker %s starts with the model %s", self.name, settings.SERVED_MODEL_NAME)
        for thread in (self.writer, self._heart, self._loader, self._sweeper):
            thread.start()

    def drain(self) -> None:
        """Stop taking sessions and make the running ones hand themselves back. Returns at once."""
        self.draining.set()
        self._changed.set()
        self.settled.set()
        if self._engine is not None:
            self._engine.stop(STOP_SECONDS)

    def strand(self, session_id: str) -> None:
        """Keep a message that this process took and cannot serve, until it takes no more, and then send it on.

        A worker that is being stopped goes on receiving for a moment, its own sessions handed back among the first.
        """
        self._stranded.append(session_id)

    def stop(self) -> None:
        """Drain, commit what is pending, say that this worker is gone. The broker's consumer has ended before."""
        self.drain()
        self._send_stranded()
        self.writer.stop(STOP_SECONDS)
        self._sweeper.stop(STOP_SECONDS)
        self._heart.join(STOP_SECONDS)
        log.info("worker %s has stopped", self.name)

    def _send_stranded(self) -> None:
        while self._stranded:
            queue.send(self._stranded.pop())

    def _load(self) -> None:
        try:
            loaded, engine = start_engine(self._report)
        except EngineError as exc:
            log.error("the model could not be loaded: %s Mend it and start the worker again.", exc)
            # Callers read this: they know the model by its name, and have no business with a path.
            self.load_error = str(exc).replace(settings.MODEL_REPO_ID, settings.SERVED_MODEL_NAME)
        except Exception:
            log.exception("the model could not be loaded")
            self.load_error = "an unexpected error; the log of the worker has the details"
        else:
            self.fingerprint = _fingerprint(loaded)
            self._engine = engine
            self._progress = ""
            log.info("the model %s is ready on %s", settings.SERVED_MODEL_NAME, loaded.device)
            if self.draining.is_set():
                engine.stop(STOP_SECONDS)
        if self.load_error is not None:
            # Others may have the model: this process must not take their sessions and let them lie.
            current_app.control.cancel_consumer(current_app.conf.task_default_queue, destination=[self._node_name])
        self.settled.set()
        self._changed.set()

    def _report(self, progress: str) -> None:
        log.info("loading %s: %s", settings.SERVED_MODEL_NAME, progress)
        self._progress = progress[:255]
        self._changed.set()

    def _beat(self) -> None:
        while True:
            try:
                self._write_row()
                if self.load_error is not None:
                    self._send_stranded()
                    refuse_queued(self.load_error)
            except DatabaseError as exc:
                log.warning("the heartbeat could not be written: %s", exc)
            finally:
                release_connections()
            if self.draining.is_set():
                return
            self._changed.wait(settings.WORKER_HEARTBEAT_SECONDS)
            self._changed.clear()

    def _write_row(self) -> None:
        ModelWorker.objects.update_or_create(
            name=self.name,
            defaults={
                "model": settings.SERVED_MODEL_NAME,
                "state": self.state,
                "progress": self._progress,
                "error": self.load_error or "",
                "running": self.writer.running,
                "heartbeat_at": timezone.now(),
            },
        )
        ModelWorker.objects.gone(FORGET_SECONDS).delete()


def _fingerprint(loaded: LoadedModel) -> dict[str, str]:
    """What another worker must share to go on with a text: other weights or another precision give another one."""
    return {"revision": loaded.revision, "dtype": loaded.dtype}


@functools.cache
def this_worker() -> Worker:
    """The worker of this process; made on the first call."""
    return Worker()
