"""The processes that decode: bounded, replaced when they end, gone with their server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psutil
import pytest

from inference.errors import InvalidMedia, Unavailable
from inference.media.decoding import DecodingPool
from tests import decoding_work as work
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60


@pytest.fixture
def pool() -> Iterator[DecodingPool]:
    pool = DecodingPool(processes=2, pixels=100, memory_mb=200)
    pool.start()
    yield pool
    pool.stop()


def submit(
    pool: DecodingPool,
    function: Callable[..., Any],
    *args: Any,
    pixels: int = 1,
    is_large: bool = False,
    cpu: float = 20,
) -> Future[Any]:
    return pool.submit(function, args, kind="image", param="part", pixels=pixels, is_large=is_large, cpu_seconds=cpu)


def refusal(future: Future[Any]) -> str:
    with pytest.raises(InvalidMedia) as caught:
        future.result(SECONDS)
    assert caught.value.param == "part"
    return caught.value.message


def test_work_is_done_in_few_processes_that_are_used_again(pool: DecodingPool) -> None:
    ids = {submit(pool, work.process_id).result(SECONDS) for _ in range(20)}
    assert os.getpid() not in ids
    assert 1 <= len(ids) <= 2
    assert ids <= set(pool.process_ids)


def test_the_processes_load_neither_the_model_nor_the_server(pool: DecodingPool) -> None:
    assert submit(pool, work.heavy_modules).result(SECONDS) == []


def test_work_that_takes_too_much_of_the_processor_ends_and_nobody_else_notices(pool: DecodingPool) -> None:
    endless = submit(pool, work.spin, cpu=1)
    others = [submit(pool, work.process_id) for _ in range(50)]
    assert "took longer than 1 seconds" in refusal(endless)
    for other in others:
        other.result(SECONDS)


def test_work_that_only_waits_ends_by_the_clock(pool: DecodingPool) -> None:
    assert "took longer than 0.5 seconds" in refusal(submit(pool, work.sleep, 60, cpu=0.5))


def test_work_that_takes_too_much_memory_is_refused_and_its_process_lives(pool: DecodingPool) -> None:
    before = submit(pool, work.process_id).result(SECONDS), submit(pool, work.process_id).result(SECONDS)
    assert submit(pool, work.take_memory, 100).result(SECONDS) == 100 * 2**20
    assert "more memory than is allowed" in refusal(submit(pool, work.take_memory, 300))
    assert submit(pool, work.take_memory, 100).result(SECONDS) == 100 * 2**20
    assert set(before) <= set(pool.process_ids)


def test_a_decoder_that_crashes_is_a_refusal_and_its_process_is_replaced(pool: DecodingPool) -> None:
    for _ in range(3):
        assert "cannot be decoded" in refusal(submit(pool, work.crash))
    assert submit(pool, work.process_id).result(SECONDS) in pool.process_ids


def test_a_mistake_of_ours_is_a_refusal_too(pool: DecodingPool, caplog: pytest.LogCaptureFixture) -> None:
    assert "cannot be decoded" in refusal(submit(pool, work.fail))
    assert "a mistake" in caplog.text


def test_what_decoders_write_to_the_terminal_is_in_no_log(capfd: pytest.CaptureFixture[str]) -> None:
    pool = DecodingPool(processes=1, pixels=1, memory_mb=200)
    pool.start()
    submit(pool, work.complain).result(SECONDS)
    pool.stop()
    captured = capfd.readouterr()
    assert "complaint" not in captured.out + captured.err


def test_work_whose_process_is_killed_is_done_by_another(pool: DecodingPool, tmp_path: Path) -> None:
    marker = tmp_path / "running"
    job = submit(pool, work.sleep_once, str(marker), 60, cpu=60)
    wait_for(marker.exists)
    wait_for(lambda: bool(marker.read_text()))
    os.kill(int(marker.read_text()), signal.SIGKILL)
    assert job.result(SECONDS) == "done"


def test_processes_that_are_killed_while_they_do_nothing_are_replaced(pool: DecodingPool) -> None:
    submit(pool, work.process_id).result(SECONDS)
    for _ in range(3):
        for pid in pool.process_ids:
            os.kill(pid, signal.SIGKILL)
        assert submit(pool, work.process_id).result(SECONDS)


def test_pixels_are_decoded_together_only_as_far_as_they_fit_and_in_order() -> None:
    pool = DecodingPool(processes=3, pixels=100, memory_mb=200)
    pool.start()
    try:
        large = submit(pool, work.sleep, 0.3, pixels=70, is_large=True)
        larger = submit(pool, work.sleep, 0.1, pixels=1_000_000, is_large=True)
        fits = submit(pool, work.process_id, pixels=1, is_large=True)
        fits.result(SECONDS)
        # There was a process for the last one all the time, but those before it were to come first.
        assert large.done()
        assert larger.done()
    finally:
        pool.stop()


def test_large_work_leaves_a_process_to_small_work_which_goes_first(pool: DecodingPool) -> None:
    large = [submit(pool, work.sleep, 1, pixels=100, is_large=True) for _ in range(3)]
    small = [submit(pool, work.process_id) for _ in range(5)]
    for job in small:
        job.result(SECONDS)
    assert not large[1].done()
    for job in large:
        assert job.result(SECONDS)


def test_the_processes_leave_the_processor_to_the_server(pool: DecodingPool) -> None:
    assert submit(pool, os.getpriority, os.PRIO_PROCESS, 0).result(SECONDS) > os.getpriority(os.PRIO_PROCESS, 0)


def test_what_is_cancelled_while_it_waits_is_never_begun(pool: DecodingPool, tmp_path: Path) -> None:
    running = [submit(pool, work.sleep, 0.5) for _ in range(2)]
    waiting = submit(pool, work.sleep_once, str(tmp_path / "begun"), 0)
    assert waiting.cancel()
    for job in running:
        job.result(SECONDS)
    submit(pool, work.process_id).result(SECONDS)
    assert not (tmp_path / "begun").exists()


def test_stopping_ends_the_processes_and_refuses_what_waits_for_them() -> None:
    pool = DecodingPool(processes=1, pixels=100, memory_mb=200)
    pool.start()
    pool.start()
    jobs = [submit(pool, work.sleep, 60, cpu=60) for _ in range(2)]
    wait_for(lambda: jobs[0].running() and bool(pool.process_ids))
    ids = pool.process_ids
    # Web and worker of one process share it: the first that stops leaves it to the other.
    pool.stop()
    assert not any(job.done() for job in jobs)
    pool.stop()
    for job in jobs:
        with pytest.raises(Unavailable):
            job.result(SECONDS)
    assert not any(psutil.pid_exists(pid) for pid in ids)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_its_server(ending: signal.Signals) -> None:
    script = (
        "import sys, time\n"
        "from inference.media.decoding import DecodingPool\n"
        "from tests import decoding_work as work\n"
        "pool = DecodingPool(processes=2, pixels=100, memory_mb=200)\n"
        "pool.start()\n"
        "pool.submit(work.process_id, (), kind='image', param=None, pixels=1, cpu_seconds=9).result(60)\n"
        "pool.submit(work.spin, (), kind='image', param=None, pixels=1, cpu_seconds=600)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    server = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        children = psutil.Process(server.pid).children(recursive=True)
        assert len(children) >= 3
        os.kill(server.pid, ending)
    _, alive = psutil.wait_procs(children, timeout=SECONDS)
    assert alive == []
