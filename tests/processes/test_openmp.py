"""Only the model thread computes with OpenMP's helpers, as a specification."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.live.stack import ROOT

PROGRAM = """
import os, threading, time, torch
from inference.engine.openmp import compute_alone

torch.set_num_threads(2)
at_first = len(os.listdir("/proc/self/task"))

def threads_for(work):
    "How many helpers there are after work was done in a thread of its own, which still lives."
    ends = time.monotonic() + 20
    while len(os.listdir("/proc/self/task")) > at_first and time.monotonic() < ends:  # those of the thread before
        time.sleep(0.01)
    counts = []
    def run():
        before = len(os.listdir("/proc/self/task"))
        work()
        counts.append(len(os.listdir("/proc/self/task")) - before)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return counts[0], torch.get_num_threads()

def compute():
    # As the processor of images does.
    torch.nn.functional.interpolate(torch.ones(1, 3, 2000, 2000), size=(1000, 1000), mode="bicubic").sub_(1).div_(2)

def compute_alone_first():
    compute_alone()
    compute()

print(threads_for(compute), threads_for(compute_alone_first), threads_for(compute))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the library is found in /proc")
def test_a_thread_that_computes_alone_has_no_helpers_and_leaves_those_of_others() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "(1, 2) (0, 2) (1, 2)\n", done.stderr
