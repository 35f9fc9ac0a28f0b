"""A stop has an end, whatever holds it up."""

from __future__ import annotations

import subprocess
import sys

from inference.worker.stopping import NOT_DONE
from tests.live.stack import ROOT

HANGING = """
import logging, threading
from inference.worker import stopping
logging.basicConfig()
stopping.GRACE_SECONDS = 0.1
stopping.end_by_force(0.1)
threading.Thread(target=threading.Event().wait).start()
"""


def test_a_process_that_a_thread_holds_up_is_ended_by_force_and_says_so() -> None:
    done = subprocess.run([sys.executable, "-c", HANGING], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == NOT_DONE
    assert "other workers take over what still runs here" in done.stderr


def test_a_process_that_ends_in_time_is_not_held_up_by_it() -> None:
    code = "from inference.worker.stopping import end_by_force; end_by_force(3600)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0


def test_the_end_waits_for_nothing_and_loses_nothing_that_was_written() -> None:
    code = (
        "import sys, threading\n"
        "from inference.worker.stopping import end_now\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "print('last words')\n"
        "end_now(3)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (3, "last words\n")
