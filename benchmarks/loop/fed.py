"""``manage.py`` with a thread that feeds sessions, so that streams grow by a clock and not by what a model manages.

For the server in one process, where wake-ups do not come from outside. ``FED_SESSIONS`` is how many.
"""

from __future__ import annotations

import os
import sys
import threading
import time

import django
from django.core.management import execute_from_command_line
from django.db import DatabaseError

django.setup()

from benchmarks import feeder  # noqa: E402  (models need the settings)
from benchmarks.loop.rates import FED_NAME, FEED_RATE, FEED_SECONDS  # noqa: E402


def feed() -> None:
    names = [f"{FED_NAME}-{number}" for number in range(int(os.environ["FED_SESSIONS"]))]
    while True:
        try:
            feeder.open_sessions(names)
            break
        except DatabaseError:  # the server has not made its tables yet
            time.sleep(0.2)
    feeder.feed(names, rate=FEED_RATE, seconds=FEED_SECONDS)


def start_feeding() -> None:
    threading.Thread(target=feed, name="feeder", daemon=True).start()


if __name__ == "__main__":
    start_feeding()
    execute_from_command_line(sys.argv)
