"""An end to stopping: what is not done in time is left to the lease of the sessions and to the next worker."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from typing import NoReturn

log = logging.getLogger(__name__)

#: not everything was handed back
NOT_DONE = 1
#: every step of a stop ends by itself within its time; this much later nothing is waited for any more
GRACE_SECONDS = 1.0


def end_by_force(seconds: float) -> threading.Timer:
    """End this process with exit status 1 after so many seconds, if it is still there.

    A driver, a broker or a database may hold any step of an orderly stop for longer than it promises. To be killed
    costs nothing but time: the database refuses whatever a dead worker's number would still write.
    """
    timer = threading.Timer(seconds + GRACE_SECONDS, _end, [seconds])
    timer.daemon = True
    timer.start()
    return timer


def end_now(status: int) -> NoReturn:
    """End this process when its stop is done, without taking the interpreter apart.

    Everything is committed and handed back by then. To free all that torch has loaded, object by object, took longer
    than the whole stop: 20 seconds where other processes wanted the processors too.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed at the other end, or here
            stream.flush()
    os._exit(status)


def _end(seconds: float) -> None:
    log.error("not stopped after %g s: what still runs here goes on elsewhere when its lease ends", seconds)
    end_now(NOT_DONE)
