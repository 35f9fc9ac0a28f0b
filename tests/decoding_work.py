"""Pieces of work for the processes that decode: they run there, so this module imports nothing heavy."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path


def process_id() -> int:
    return os.getpid()


def heavy_modules() -> list[str]:
    """Of a server, those that a process which decodes has no use for."""
    heavy = (
        "torch",
        "transformers",
        "celery",
        "channels",
        "daphne",
        "django.db",
        "sessions_app.models",
        "config.settings",
    )
    return [name for name in heavy if name in sys.modules]


def spin() -> None:
    while True:
        pass


def sleep_once(marker: str, seconds: float) -> str:
    """The first time that it runs it leaves its process's id in ``marker`` and sleeps."""
    path = Path(marker)
    if not path.exists():
        path.write_text(str(os.getpid()))
        time.sleep(seconds)
    return "done"


def sleep(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def take_memory(mebibytes: int) -> int:
    return len(bytearray(mebibytes * 2**20))


def crash() -> None:
    ctypes.string_at(0)


def fail() -> None:
    raise LookupError("a mistake")


def complain() -> None:
    os.write(1, b"complaint")
    os.write(2, b"complaint")
    sys.stderr.write("complaint")
    sys.stderr.flush()
