"""An engine in a process of its own, as the worker sees it."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from inference.engine.config import EngineConfig
from inference.engine.errors import EngineError, EngineLost, EngineStopped, caused_by
from inference.engine.handle import Handle
from inference.engine.progress import Listener
from inference.engine.stats import EngineStats, ModelFacts
from inference.engine.types import Delta, Finish, GenerationRequest
from inference.engine_process import messages
from inference.engine_process.outbox import Outbox

log = logging.getLogger(__name__)

#: the folder that contains the package ``inference``
ROOT = Path(__file__).resolve().parents[2]
#: maximum wait for the counters of an engine
STATS_SECONDS = 1.0
#: Size of the child's send buffer. With it a step does not wait for a worker that is busy for a moment. Linux gives at
#: most twice ``net.core.wmem_max``.
BUFFER_BYTES = 2**20
#: maximum wait for the child to exit once the socket is closed; then it is killed
EXIT_SECONDS = 5.0


class EngineProcess:
    """An engine in a child process, whose interpreter runs nothing else: no other thread of the worker delays a step.

    The child ends when this process does, however it ends.
    """

    def __init__(
        self,
        config: EngineConfig,
        on_progress: Listener,
        on_lost: Callable[[str], None] | None = None,
        *,
        hidden: Collection[str] = (),
    ) -> None:
        """Start the process, which begins to load the model. ``load`` waits for that.

        ``on_progress`` is called with the progress of loading. ``on_lost`` is called with the reason when the process
        ends unexpectedly after loading, before the handles end. Both are called on the thread that reads its messages.
        The process does not get the environment variables ``hidden``.
        """
        self._on_progress = on_progress
        self._on_lost = on_lost or (lambda reason: None)
        self._numbers = itertools.count()
        self._asking = threading.Lock()
        self._answers: queue.SimpleQueue[EngineStats] = queue.SimpleQueue()
        self._loaded: queue.SimpleQueue[ModelFacts | EngineError] = queue.SimpleQueue()
        #: the last known, once the model is loaded
        self._stats: EngineStats
        self._is_loaded = False
        #: protects the two below
        self._changed = threading.Lock()
        #: number → generation that has not ended
        self._open: dict[int, Handle] = {}
        self._stopping = False
        self._socket, theirs = socket.socketpair()
        with theirs:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            self._process = start_child(theirs.fileno(), hidden)
        self._connection = Connection(os.dup(self._socket.fileno()))
        self._was_killed = False
        self._outbox = Outbox(self._connection, on_broken=self._kill)
        self._outbox.put(messages.Start(config, _log_levels()))
        self._outbox.start()
        self._reader = threading.Thread(target=self._read, name="engine-reader", daemon=True)
        self._reader.start()

    def load(self) -> ModelFacts:
        """Wait for the model, seconds to minutes. To be called once, before all other methods but ``stop``.

        Raises ``LoadError``, ``EngineLost`` when the process has ended, and ``EngineStopped`` after ``stop``.
        """
        loaded = self._loaded.get()  # When the process ends, the reader puts an error. So does ``stop``.
        if isinstance(loaded, EngineError):
            self.stop(EXIT_SECONDS)
            raise loaded
        self.facts = loaded
        return loaded

    @property
    def pid(self) -> int:
        return self._process.pid

    def submit(self, request: GenerationRequest) -> Handle:
        """As ``Engine.submit``, but it waits while the process does not read.

        When the process ends unexpectedly, the handle raises ``EngineLost``.
        """
        number = next(self._numbers)
        handle = Handle(lambda closed: self._forget(number), resumed_tokens=len(request.resume_ids))
        with self._changed:
            if self._stopping:
                raise EngineStopped
            self._open[number] = handle
        self._outbox.send(messages.Submit(number, request))
        return handle

    def stats(self) -> EngineStats:
        """The counters; the last known ones when the process does not answer in time."""
        with self._asking:
            if self._stopping:
                return dataclasses.replace(
                    self._stats,
                    running=0,
                    waiting=0,
                    cache_bytes=0,
                    kept_bytes=0,
                    running_tokens=0,
                    process_bytes=0,
                )
            while not self._answers.empty():  # those that came too late
                self._answers.get()
            self._outbox.put(messages.AskStats())
            with contextlib.suppress(queue.Empty):
                self._stats = self._answers.get(timeout=STATS_SECONDS)
            return self._stats

    def stop(self, timeout_seconds: float = 10.0) -> bool:
        """Accept no more requests, end all handles with ``EngineStopped``, and end the process.

        Returns whether it ended in time; otherwise it is killed. May be called again, and while ``load`` waits.
        """
        deadline = time.monotonic() + timeout_seconds
        self._end_all_handles(EngineStopped)
        self._loaded.put(EngineStopped())
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return False
        self._reader.join(max(0.0, deadline - time.monotonic()))
        return True

    def _forget(self, number: int) -> None:
        """The handle was closed. Unless the child ended the generation, tell it to cancel."""
        with self._changed:
            was_open = self._open.pop(number, None) is not None
            tells = was_open and not self._stopping
        if tells:
            self._outbox.put(messages.Cancel(number))

    def _end_all_handles(self, error: type[EngineError]) -> None:
        with self._changed:
            self._stopping = True
            handles = list(self._open.values())
        for handle in handles:
            handle.finish(error())

    # On the reading thread

    def _read(self) -> None:
        try:
            while (received := self._received()) is not None:
                for message in received:
                    self._take(message)
        except Exception:
            log.exception("the messages of the engine's process cannot be read")
            self._kill()
        finally:
            self._end()

    def _received(self) -> list[Any] | None:
        """The next messages; None when the process has ended, or is stopped."""
        try:
            return messages.receive(self._connection)
        except (EOFError, OSError):
            return None

    def _take(self, message: Any) -> None:
        match message:
            case messages.Added(number, delta, reasoning_tokens):
                if handle := self._open.get(number):
                    _deliver(handle, delta, reasoning_tokens)
            case messages.Prepared(number, prompt_tokens, reasoning_tokens):
                if handle := self._open.get(number):
                    handle.prepared(prompt_tokens=prompt_tokens, reasoning_tokens=reasoning_tokens)
            case messages.Ended(number, end, cause):
                with self._changed:
                    handle = self._open.pop(number, None)
                if handle is not None:
                    handle.finish(_with_cause(end, cause))
            case messages.Stats(stats):
                self._answers.put(stats)
            case messages.Loading(progress):
                self._on_progress(progress)
            case messages.Ready(facts, stats):
                self._stats, self._is_loaded = stats, True
                self._loaded.put(facts)
            case messages.LoadFailed(error):
                self._loaded.put(error)
            case messages.Logged(attributes, traceback):
                _log(attributes, traceback)

    def _end(self) -> None:
        """The process has ended, is being stopped, or sent an unreadable message."""
        try:
            if not self._stopping:
                reason = f"The engine's process has ended: {self._exit()}."
                if self._is_loaded:
                    self._on_lost(reason)
                self._loaded.put(EngineLost(reason))
        finally:
            self._end_all_handles(EngineLost)
            self._outbox.close()
            self._socket.close()

    def _kill(self) -> None:
        self._was_killed = True
        self._process.kill()

    def _exit(self) -> str:
        """How the process has ended, for operators."""
        try:
            status = self._process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait(EXIT_SECONDS)
            return "it closed its socket and did not exit, so it was killed"
        if self._was_killed:
            return "it was killed, because the messages between it and the worker failed; the log has the details"
        if status >= 0:
            return f"exit status {status}"
        name = next((known.name for known in signal.Signals if known == -status), f"signal {-status}")
        return f"{name}, which Linux sends when memory runs out" if status == -signal.SIGKILL else name


def start_child(descriptor: int, hidden: Collection[str]) -> subprocess.Popen[bytes]:
    """Start the process, with this descriptor of a socket that ends at the caller."""
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    paths = [str(ROOT), *filter(None, [env.get("PYTHONPATH")])]
    return subprocess.Popen(  # noqa: S603  (our own module)
        # -P: modules in the current folder must not replace others.
        [sys.executable, "-P", "-m", "inference.engine_process", str(descriptor)],
        pass_fds=[descriptor],
        stdin=subprocess.DEVNULL,
        env=env | {"PYTHONPATH": os.pathsep.join(paths)},
        # Ctrl-C in a terminal is for the worker alone.
        process_group=0,
    )


def _deliver(handle: Handle, delta: Delta, reasoning_tokens: int) -> None:
    try:
        handle.put(delta, reasoning_tokens=reasoning_tokens)
    except Exception as error:
        # It ends this generation and no other.
        handle.finish(caused_by(error, "The answer could not be stored."))


def _with_cause(end: Finish | EngineError, traceback: str) -> Finish | EngineError:
    if traceback and isinstance(end, EngineError):
        end.__cause__ = messages.RemoteTraceback(traceback)
    return end


def _log_levels() -> dict[str, int]:
    """Name → level of the loggers that the child's records belong to."""
    return {name: logging.getLogger(name).getEffectiveLevel() for name in ("", "inference")}


def _log(attributes: dict[str, Any], traceback: str) -> None:
    record = logging.makeLogRecord(attributes)
    if traceback:
        error = messages.RemoteTraceback(traceback)
        record.exc_info = (messages.RemoteTraceback, error, None)
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)
