"""The watch over the event loop sees what holds it up, and nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.live.stack import ROOT, STOP_SECONDS
from tests.stall_watch import AVAILABLE, StallWatch

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="this system does not tell what its threads wait for")

#: well over the bound
HELD_SECONDS = 0.4
#: some ticks of the watch, on a busy machine as well
SEEN_SECONDS = 0.3


@pytest.fixture
def watch() -> Iterator[StallWatch]:
    watch = StallWatch()
    watch.start()
    yield watch
    watch.stop()


def compute(seconds: float = HELD_SECONDS) -> None:
    """In Python, by the clock of this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def keep_the_interpreter() -> None:
    """One call of a C function that computes for long enough."""
    # Twice the time that the smaller text takes, until it is enough: machines differ.
    size = 1_000_000
    while True:
        text = "[" + "0," * size + "0]"
        started = time.thread_time()
        json.loads(text)
        if time.thread_time() - started > HELD_SECONDS:
            return
        size *= 2


def in_a_thread(work: Callable[[], object]) -> None:
    """While a loop runs on the main thread.

    The thread is there before and after, as those of a server's pool are: the watch sees no thread that begins or ends
    while it waits.
    """

    def stay_around() -> None:
        time.sleep(SEEN_SECONDS)
        work()
        time.sleep(SEEN_SECONDS)

    async def wait() -> None:
        await asyncio.to_thread(stay_around)

    asyncio.run(wait())


def test_it_sees_a_callback_that_computes(watch: StallWatch) -> None:
    async def callback() -> None:
        asyncio.get_running_loop().call_soon(compute)
        await asyncio.sleep(0.01)

    asyncio.run(callback())
    stalls = [stall for stall in watch.take() if stall.kind == "callback"]
    assert len(stalls) == 1
    assert stalls[0].milliseconds >= 1000 * HELD_SECONDS
    assert "compute" in stalls[0].where


def test_it_sees_a_step_of_a_task_that_computes(watch: StallWatch) -> None:
    async def step() -> None:
        await asyncio.sleep(0)
        compute()

    asyncio.run(step())
    assert "callback" in {stall.kind for stall in watch.take()}


def test_it_sees_a_thread_that_keeps_the_interpreter(watch: StallWatch) -> None:
    in_a_thread(keep_the_interpreter)
    assert {stall.kind for stall in watch.take()} == {"interpreter"}


@pytest.mark.parametrize(
    "harmless",
    [
        pytest.param(lambda: time.sleep(HELD_SECONDS), id="sleeps"),
        pytest.param(compute, id="computes in Python, which gives the interpreter back"),
        pytest.param(lambda: hashlib.sha256(bytes(100_000_000)), id="computes in C without the interpreter"),
    ],
)
def test_a_thread_that_lets_others_run_is_no_stall(watch: StallWatch, harmless: Callable[[], object]) -> None:
    in_a_thread(harmless)
    assert watch.take() == []


def test_a_process_that_stood_still_was_not_held_up() -> None:
    code = """
from tests.stall_watch import StallWatch
watch = StallWatch()
watch.start()
print("watching", flush=True)
input()
print(watch.take(), flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "watching\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(HELD_SECONDS)
        process.send_signal(signal.SIGCONT)
        said, _ = process.communicate("go\n", timeout=STOP_SECONDS)
    assert said == "[]\n"


def test_processors_that_others_want_are_no_stall(watch: StallWatch) -> None:
    """As many processes as it takes to make every thread here wait for its turn."""
    others = [subprocess.Popen(["/bin/sh", "-c", "while :; do :; done"]) for _ in range(4 * (os.cpu_count() or 1))]
    try:
        busy = [threading.Thread(target=compute) for _ in range(2)]
        for thread in busy:
            thread.start()
        for thread in busy:
            thread.join()
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert watch.take() == []
