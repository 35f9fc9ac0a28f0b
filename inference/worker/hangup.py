"""Handle SIGHUP: reload the model or, if the controlling terminal was closed, stop as on SIGTERM."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any


def on_hangup(reload: Callable[[], None]) -> None:
    """Call ``reload`` at every SIGHUP. Must be called on the main thread, which ``reload`` may interrupt anywhere.

    Closing a terminal sends the same signal. A server that was started in it without nohup then stops as on SIGTERM.
    """
    stays = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    dies_with_terminal = not stays and _has_terminal()

    def hang_up(*args: Any) -> None:
        if dies_with_terminal and not _has_terminal():
            signal.raise_signal(signal.SIGTERM)
        else:
            reload()

    signal.signal(signal.SIGHUP, hang_up)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
