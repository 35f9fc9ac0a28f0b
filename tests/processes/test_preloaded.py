"""What starts the servers of live tests, as a specification: forks are processes like any others."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.preloaded import Fork, Preloaded
from tests.live.stack import ROOT
from tests.waiting import wait_for

DEADLINE_SECONDS = 30.0


@pytest.fixture(scope="module")
def preloaded() -> Iterator[Preloaded]:
    preloaded = Preloaded(ROOT)
    yield preloaded
    preloaded.close()


def start(preloaded: Preloaded, folder: Path, code: str, **variables: str) -> Fork:
    script = folder / f"script{len(list(folder.iterdir()))}.py"  # An earlier one may not have been read yet.
    script.write_text(code)
    return preloaded.start([str(script), "argument"], env=variables, cwd=folder, log=folder / "log")


def test_a_fork_has_its_arguments_its_environment_and_its_log(preloaded: Preloaded, tmp_path: Path) -> None:
    code = "import os, sys; print(sys.argv[1:], sorted(os.environ), os.getcwd()); raise SystemExit(3)"
    fork = start(preloaded, tmp_path, code, ONLY="this")
    assert fork.wait(DEADLINE_SECONDS) == 3
    assert (tmp_path / "log").read_text() == f"['argument'] ['ONLY'] {tmp_path}\n"


def test_an_error_is_in_the_log_and_in_the_status(preloaded: Preloaded, tmp_path: Path) -> None:
    assert start(preloaded, tmp_path, "raise ValueError('as it is')").wait(DEADLINE_SECONDS) == 1
    assert "ValueError: as it is" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, -15), (signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_fork_is_ended_by_signals(preloaded: Preloaded, tmp_path: Path, number: int, status: int) -> None:
    code = (
        "import time\nprint('runs', flush=True)\ntry: time.sleep(60)\nexcept KeyboardInterrupt: raise SystemExit(130)"
    )
    fork = start(preloaded, tmp_path, code)
    wait_for(lambda: "runs" in (tmp_path / "log").read_text())
    assert fork.poll() is None
    fork.send_signal(number)
    assert fork.wait(DEADLINE_SECONDS) == status


def test_it_has_what_was_imported_and_none_of_the_settings(preloaded: Preloaded, tmp_path: Path) -> None:
    names = "'torch' in sys.modules, 'config.settings' in sys.modules"
    code = f"import sys, threading; print({names}, threading.active_count())"
    start(preloaded, tmp_path, code).wait(DEADLINE_SECONDS)
    assert (tmp_path / "log").read_text() == "True False 1\n"


def test_a_wait_that_takes_too_long_is_a_timeout(preloaded: Preloaded, tmp_path: Path) -> None:
    fork = start(preloaded, tmp_path, "import time; time.sleep(60)")
    with pytest.raises(subprocess.TimeoutExpired):
        fork.wait(0.05)
    fork.kill()
    assert fork.wait(DEADLINE_SECONDS) == -9


def test_an_answer_that_nobody_read_is_not_taken_for_the_next(preloaded: Preloaded, tmp_path: Path) -> None:
    running = start(preloaded, tmp_path, "import time; time.sleep(60)")
    # What an interrupted test leaves.
    preloaded._requests.write(json.dumps([10**9, {"poll": running.pid}]) + "\n")
    preloaded._requests.flush()
    assert start(preloaded, tmp_path, "raise SystemExit(8)").wait(DEADLINE_SECONDS) == 8
    running.kill()
    assert running.wait(DEADLINE_SECONDS) == -9


def test_a_status_that_nobody_read_is_told_again(preloaded: Preloaded, tmp_path: Path) -> None:
    fork = start(preloaded, tmp_path, "raise SystemExit(7)")
    wait_for(lambda: preloaded.ask({"poll": fork.pid}) is not None)
    assert fork.wait(DEADLINE_SECONDS) == 7


def test_without_the_process_nothing_is_started_and_the_error_says_why(tmp_path: Path) -> None:
    preloaded = Preloaded(ROOT)
    preloaded._process.kill()
    preloaded._process.wait()
    with pytest.raises(RuntimeError, match="the process that starts servers has ended"):
        start(preloaded, tmp_path, "pass")
    preloaded.close()
