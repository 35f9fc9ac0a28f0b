"""Force the process to exit when an orderly stop takes too long.

Sessions that were not released in time continue on another worker when their lease expires.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from typing import NoReturn

log = logging.getLogger(__name__)

#: exit status: a thread that the worker depends on has ended
FAILED = 1
#: exit status: not every session was released
NOT_DONE = 1
#: grace period after the time that all steps of a stop have together (``WORKER_STOP_SECONDS``)
GRACE_SECONDS = 1.0


def end_by_force(seconds: float) -> threading.Timer:
    """End this process with exit status ``NOT_DONE`` after this many seconds, if it still runs.

    A driver, a broker or a database may block any step of an orderly stop for longer than its timeout. Killing the
    process costs only time: whatever it had in flight is fenced.
    """
    timer = threading.Timer(seconds + GRACE_SECONDS, _end, [seconds])
    timer.daemon = True
    timer.start()
    return timer


def end_now(status: int) -> NoReturn:
    """Exit once the stop is complete, without finalizing the interpreter.

    Everything is committed and released by then. Freeing all objects one by one may take longer than the stop itself.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed by the reader, or by this process
            stream.flush()
    os._exit(status)


def _end(seconds: float) -> None:
    log.error("not stopped after %g s: other workers take over what still runs here when its lease expires", seconds)
    end_now(NOT_DONE)
