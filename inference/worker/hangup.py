"""SIGHUP as the wish to try again, and still as the end of a server whose terminal was closed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any


def on_hangup(try_again: Callable[[], None]) -> None:
    """Call ``try_again`` at every SIGHUP. For the main thread; ``try_again`` may interrupt it anywhere.

    A terminal that is closed sends the same signal: a server that began in one, and was not told to outlive it (nohup),
    stops then as by SIGTERM.
    """
    stays = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    dies_with_terminal = not stays and _has_terminal()

    def hang_up(*args: Any) -> None:
        if dies_with_terminal and not _has_terminal():
            signal.raise_signal(signal.SIGTERM)
        else:
            try_again()

    signal.signal(signal.SIGHUP, hang_up)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
