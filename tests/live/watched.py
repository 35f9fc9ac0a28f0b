"""``manage.py`` under a watch for what holds up its event loop. ``STALLS_PORT`` is where it tells."""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line

from tests.stall_watch import StallWatch

if __name__ == "__main__":
    watch = StallWatch()
    watch.start()
    watch.answer_on(int(os.environ["STALLS_PORT"]))
    execute_from_command_line(sys.argv)
