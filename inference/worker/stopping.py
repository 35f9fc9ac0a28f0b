"""End a stop that takes too long. Sessions that were not released in time go on elsewhere when their lease expires."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from typing import NoReturn

log = logging.getLogger(__name__)

#: exit status: a thread that the worker cannot do without has ended
FAILED = 1
#: exit status: not every session was released
NOT_DONE = 1
#: after the time that all steps of a stop have together
GRACE_SECONDS = 1.0


def end_by_force(seconds: float) -> threading.Timer:
    """End this process with exit status ``NOT_DONE`` after this many seconds, if it still runs.

    A driver, a broker or a database may block any step of an orderly stop for longer than its time-out. Being killed
    costs only time: whatever the dead worker had in flight is fenced.
    """
    timer = threading.Timer(seconds + GRACE_SECONDS, _end, [seconds])
    timer.daemon = True
    timer.start()
    return timer


def end_now(status: int) -> NoReturn:
    """End this process when its stop is done, without finalizing the interpreter.

    Everything is committed and released by then. Freeing what torch has loaded, object by object, took longer than the
    stop itself: 20 seconds on a machine with busy processors.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed at the other end, or here
            stream.flush()
    os._exit(status)


def _end(seconds: float) -> None:
    log.error("not stopped after %g s: what still runs here goes on elsewhere when its lease expires", seconds)
    end_now(NOT_DONE)
