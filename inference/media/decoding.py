"""The pool of processes that decode images and videos, and the order in which work is given to them.

Web and worker share them if they run in one process. Large work waits in order until a process is free for it and the
pixels that are decoded at the same time are within the limit. Small work goes first; a process is reserved for it.
"""

from __future__ import annotations

import collections
import functools
import logging
import multiprocessing
import signal
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass
from typing import Any, TypeVar

from django.conf import settings
from pebble import ProcessExpired, ProcessPool

from inference.errors import ApiError, InvalidMedia, Unavailable
from inference.media import sandbox

log = logging.getLogger(__name__)
T = TypeVar("T")

#: a process is replaced after this many jobs, because decoders leak a little memory
TASKS_OF_PROCESS = 500
#: the wall-clock limit is the CPU limit times this factor, because other processes use the CPUs too
WALL_FACTOR = 2
#: how often a job is restarted when its process was killed from outside or the pool broke
MAX_ATTEMPTS = 3
#: exit codes of a process killed from outside (by the OOM killer or an operator), which is not the file's fault
KILLED_BY_SIGNAL = {-signal.SIGKILL, -signal.SIGTERM}


@dataclass(slots=True)
class _Job:
    work: Callable[..., Any]
    args: tuple[Any, ...]
    #: what is decoded, for messages
    kind: str
    param: str | None
    #: pixels in memory at the same time
    pixels: int
    #: needs much time or memory
    is_large: bool
    cpu_seconds: float
    answer: Future[Any]
    attempts: int = 0


class DecodingPool:
    """Starts the processes when they are first needed, and replaces those that end."""

    def __init__(self, *, processes: int, pixels: int, memory_mb: int) -> None:
        self._processes = processes
        self._pixels = pixels
        self._memory_mb = memory_mb
        # If there are several processes, one is reserved for small images.
        self._large_turns = max(1, processes - 1)
        #: guards the attributes below; never held during slow work
        self._lock = threading.RLock()
        self._waiting: collections.deque[_Job] = collections.deque()
        self._running: list[_Job] = []
        self._pool: ProcessPool | None = None
        self._starter: threading.Thread | None = None
        self._users = 0

    def start(self) -> None:
        """Start the processes in the background and return at once. Each call needs a call of ``stop``."""
        with self._lock:
            self._users += 1
            self._ensure_started()

    def stop(self) -> None:
        """End the processes once every ``start`` has had its ``stop``; what they are decoding is lost."""
        with self._lock:
            self._users = max(0, self._users - 1)
            if self._users:
                return
            starter = self._starter
        if starter is not None:
            starter.join()
        with self._lock:
            pool, self._pool = self._pool, None
            unfinished = [*self._running, *self._waiting]
            self._running.clear()
            self._waiting.clear()
        if pool is not None:
            pool.stop()
            pool.join()
        for job in unfinished:
            _fail(job, Unavailable("The server is shutting down. Send the request again in a moment."))

    def submit(
        self,
        work: Callable[..., T],
        args: tuple[Any, ...],
        *,
        kind: str,
        param: str | None,
        pixels: int,
        cpu_seconds: float,
        is_large: bool = False,
    ) -> Future[T]:
        """Queue the work for one of the processes. Returns at once.

        ``pixels`` are those in memory at once; work that ``is_large`` leaves a process to other work.

        The future raises what the work raises, InvalidMedia when it needs too much time or memory or ends its process,
        and Unavailable when the server stops meanwhile.
        """
        answer: Future[T] = Future()
        with self._lock:
            job = _Job(work, args, kind, param, min(pixels, self._pixels), is_large, cpu_seconds, answer)
            self._waiting.append(job)
            self._admit()
            self._ensure_started()
        return answer

    @property
    def process_ids(self) -> list[int]:
        """The ids of the processes that run now."""
        processes = multiprocessing.active_children()
        return [process.pid for process in processes if process.name == "pebble_pool_worker" and process.pid]

    def _ensure_started(self, broken: ProcessPool | None = None) -> None:
        """Under the lock."""
        if self._pool is None and self._starter is None:
            # In a thread: it takes a second, and the caller may be on an event loop.
            self._starter = threading.Thread(target=self._start_pool, args=(broken,), name="media-start", daemon=True)
            self._starter.start()

    def _start_pool(self, broken: ProcessPool | None) -> None:
        if broken is not None:
            broken.stop()
            broken.join()
        # Not fork: this process has threads. The forkserver process imports only the decoders.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([sandbox.__name__])
        pool = ProcessPool(
            max_workers=self._processes, max_tasks=TASKS_OF_PROCESS, initializer=sandbox.set_up, context=context
        )
        try:
            for _ in range(self._processes):
                pool.schedule(sandbox.wake_up)
        except (RuntimeError, OSError, BrokenExecutor):
            log.exception("no decoding process could be started")
            with self._lock:
                self._starter = None
                waiting = list(self._waiting)
                self._waiting.clear()
            for job in waiting:
                _fail(job, _unavailable())
            return
        with self._lock:
            self._starter = None
            self._pool = pool
            self._admit()

    def _admit(self) -> None:
        """Start the jobs that may run now: small ones, then large ones in order. Called under the lock."""
        for job in sorted(self._waiting, key=lambda job: job.is_large):
            if self._pool is None or len(self._running) >= self._processes:
                return
            if job.is_large:
                large = [other for other in self._running if other.is_large]
                if len(large) >= self._large_turns:
                    return
                if large and sum(other.pixels for other in large) + job.pixels > self._pixels:
                    # No other large job may overtake it, or it could wait for ever.
                    return
            self._waiting.remove(job)
            if job.attempts or job.answer.set_running_or_notify_cancel():
                self._begin(job, self._pool)

    def _begin(self, job: _Job, pool: ProcessPool) -> None:
        job.attempts += 1
        self._running.append(job)
        try:
            inner = pool.schedule(
                sandbox.run,
                (job.work, job.args, job.cpu_seconds, self._memory_mb),
                timeout=job.cpu_seconds * WALL_FACTOR,
            )
        except RuntimeError:
            # Broken meanwhile: a process ended between two jobs.
            self._replace(pool)
            self._end(job, BrokenExecutor())
        else:
            inner.add_done_callback(functools.partial(self._done, job, pool))

    def _done(self, job: _Job, pool: ProcessPool, inner: Future[Any]) -> None:
        """On a thread of the pool."""
        error = inner.exception() if not inner.cancelled() else BrokenExecutor()
        with self._lock:
            if isinstance(error, BrokenExecutor):
                self._replace(pool)
            if error is not None:
                self._end(job, error)
                return
            if job not in self._running:
                return  # stopped meanwhile
            self._running.remove(job)
            self._admit()
        job.answer.set_result(inner.result())

    def _end(self, job: _Job, error: BaseException) -> None:
        """Under the lock."""
        if job not in self._running:
            return
        self._running.remove(job)
        was_killed = isinstance(error, ProcessExpired) and error.exitcode in KILLED_BY_SIGNAL
        if (was_killed or isinstance(error, BrokenExecutor)) and job.attempts < MAX_ATTEMPTS:
            log.warning("a decoding process was killed or its pool broke; its work is restarted")
            self._waiting.appendleft(job)
        else:
            _fail(job, _refusal(job, error))
        self._admit()

    def _replace(self, pool: ProcessPool) -> None:
        """Under the lock."""
        if self._pool is pool:
            self._pool = None
            self._ensure_started(broken=pool)


def _fail(job: _Job, error: BaseException) -> None:
    if not job.answer.done():
        job.answer.set_exception(error)


def _unavailable() -> Unavailable:
    return Unavailable("Images and videos cannot be decoded at the moment. Try again later.")


def _refusal(job: _Job, error: BaseException) -> BaseException:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, TimeoutError) or (isinstance(error, ProcessExpired) and error.exitcode == -signal.SIGXCPU):
        return InvalidMedia(
            f"Decoding the {job.kind} took longer than {job.cpu_seconds:g} seconds; send a smaller or simpler one.",
            param=job.param,
        )
    if isinstance(error, sandbox.OutOfMemory):
        return InvalidMedia(
            f"Decoding the {job.kind} takes more memory than is allowed; send a smaller one.", param=job.param
        )
    if isinstance(error, BrokenExecutor):
        log.error("every decoding process ends at once", exc_info=error)
        return _unavailable()
    # A decoder crashed, or this code has a bug. It is logged as an error, and the file is refused.
    log.error("a %s could not be decoded: %r", job.kind, error, exc_info=error)
    return InvalidMedia(f"The {job.kind} cannot be decoded.", param=job.param)


@functools.cache
def decoding_pool() -> DecodingPool:
    """The pool of this process; made at the first call."""
    return DecodingPool(
        processes=settings.MEDIA_DECODE_PROCESSES,
        pixels=settings.MAX_PIXELS_AT_ONCE,
        memory_mb=settings.MEDIA_DECODE_MEMORY_MB,
    )
