"""What runs inside the decoding processes. It uses no settings, no database and no model.

A decoder is a large C library that parses untrusted input. Here its memory and its time are limited, and a crash
affects only this process.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import multiprocessing
import os
import resource
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

# The forkserver process loads them once, so that each new process already has them.
from inference.engine import grammar_check  # noqa: F401
from inference.media import images, videos  # noqa: F401

T = TypeVar("T")
#: added to the niceness of the processes: on a busy machine the server, which answers all clients, goes first. They
#: still get half of its CPU time, which is enough for their wall-clock limit (``decoding.WALL_FACTOR``).
NICENESS = 3
MEBIBYTE = 2**20
#: freed memory that a process keeps for its next job, because returning and requesting it again takes milliseconds
KEPT_MEBIBYTES = 100
#: glibc's mallopt parameters: the size from which memory is mapped separately, and the one from which it is trimmed
M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1


class OutOfMemory(Exception):
    """The work needs more memory than it may have."""


def set_up() -> None:
    """Called once in every process, before its first job."""
    # The process must end at once; Python's own handlers would wait for the decoder to return.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Decoders report recoverable errors as Python warnings and on stderr. These reports contain untrusted text and must
    # not reach the log.
    warnings.simplefilter("ignore")
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    _keep_freed_memory()
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()


def _end_with_parent() -> None:
    """End this process with its server: a server that is killed cannot end its processes itself."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def run(work: Callable[..., T], args: tuple[Any, ...], cpu_seconds: float, memory_mb: int) -> T:
    """Do the work within its limits of CPU time and of memory in addition to that of an idle process.

    Raises OutOfMemory. Exceeding the CPU time ends the process (SIGXCPU).
    """
    try:
        with _limited_memory(memory_mb), _limited_cpu(cpu_seconds):
            return work(*args)
    except MemoryError:
        pass
    raise OutOfMemory


@contextlib.contextmanager
def _limited_memory(mebibytes: int) -> Iterator[None]:
    idle = _idle_bytes()
    if idle is None:
        yield
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    _set_soft(resource.RLIMIT_AS, idle + mebibytes * MEBIBYTE)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        if (_address_space() or 0) > idle + KEPT_MEBIBYTES * MEBIBYTE:
            _give_back()


@contextlib.contextmanager
def _limited_cpu(seconds: float) -> Iterator[None]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    _set_soft(resource.RLIMIT_CPU, int(usage.ru_utime + usage.ru_stime + seconds) + 1)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))


def _set_soft(kind: int, limit: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _address_space() -> int | None:
    """Bytes; None where the system does not say, and limits none (macOS)."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
    except OSError:
        return None


@functools.cache
def _idle_bytes() -> int | None:
    """The memory of this process before its first job, with the space that the C library reserves for a thread."""
    return _address_space()


def _keep_freed_memory() -> None:
    """Let the planes of the next picture reuse the memory of the last one."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        c_library = ctypes.CDLL(None)
        c_library.mallopt(M_MMAP_THRESHOLD, 32 * MEBIBYTE)
        c_library.mallopt(M_TRIM_THRESHOLD, KEPT_MEBIBYTES * MEBIBYTE)


def _give_back() -> None:
    """Return freed memory to the system, so that every job has the same amount available."""
    with contextlib.suppress(OSError, AttributeError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)


def wake_up() -> int:
    """Health check: returns when the process is ready for work."""
    _idle_bytes()
    return os.getpid()
