"""The processor time of a server that benchmarks compare: that of its whole tree of processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.serve import against
from benchmarks.servers import tree_cpu_seconds

#: each process computes for this long
BUSY_SECONDS = 0.2
PROGRAM = f"""
import subprocess, sys, time
def busy():
    while time.process_time() < {BUSY_SECONDS}: pass
if "child" in sys.argv:
    busy(); print(flush=True); sys.stdin.readline(); raise SystemExit
child = subprocess.Popen([sys.executable, __file__, "child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
busy(); child.stdout.readline(); print(flush=True)
sys.stdin.readline(); child.communicate(b"\\n"); print(flush=True); sys.stdin.readline()
"""


def test_a_child_counts_while_it_runs_and_when_it_has_ended(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    program = subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert program.stdin and program.stdout
    try:
        program.stdout.readline()
        running = tree_cpu_seconds(program.pid)
        program.stdin.write(b"\n")
        program.stdin.flush()
        program.stdout.readline()
        ended = tree_cpu_seconds(program.pid)
    finally:
        program.kill()
        program.communicate()
    assert running > 1.5 * BUSY_SECONDS
    assert ended > running - 0.01


def test_a_turn_waits_for_servers_that_still_compute() -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", "import time\nprint(flush=True)\nwhile time.process_time() < 1.0: pass\ntime.sleep(60)"],
        stdout=subprocess.PIPE,
    )
    assert program.stdout
    try:
        program.stdout.readline()
        against.wait_until_idle([program.pid])
        assert tree_cpu_seconds(program.pid) > 0.9
    finally:
        program.kill()
        program.communicate()


def test_a_server_that_never_rests_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(against, "IDLE_WITHIN_SECONDS", 0.6)
    monkeypatch.setattr(against, "IDLE_CORES", -1.0)
    program = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with pytest.raises(RuntimeError, match="still computes"):
            against.wait_until_idle([program.pid])
    finally:
        program.kill()
        program.communicate()
