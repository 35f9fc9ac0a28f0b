"""``METRICS_DIR``: processes of one host show the same figures, and one that ends takes none of its counts with it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessions_app.metric_files import read_files
from tests.live.stack import ROOT

#: counts three resumes and two listeners
COUNT = """
import django; django.setup()
from sessions_app import metrics
metrics.resumes.inc(3)
metrics.listeners.inc(2)
metrics.http_requests.labels("/live", "200").inc()
print("counted", flush=True)
"""
SHOW = """
import django; django.setup()
from sessions_app.scraping import exposition
print(exposition().decode())
"""
WAIT = "\ninput()\n"


def process(code: str, folder: Path) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    settings = {"ENV_FILE": os.devnull, "SECRET_KEY": "x" * 60, "DJANGO_SETTINGS_MODULE": "config.settings"}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**kept, **settings, "METRICS_DIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def run(code: str, folder: Path) -> str:
    printed, _ = process(code, folder).communicate(timeout=60)
    return printed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Not there yet."""
    return tmp_path / "var" / "metrics"


@pytest.fixture
def living(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has counted, and goes on."""
    process_ = process(COUNT + WAIT, folder)
    assert process_.stdout is not None
    assert process_.stdout.readline() == "counted\n"
    yield process_
    process_.communicate("\n", timeout=60)


def values(folder: Path) -> dict[str, float]:
    return {sample.name: sample.value for metric in read_files(folder) for sample in metric.samples}


def files_of(folder: Path, process_: subprocess.Popen[str]) -> list[str]:
    return [path.name for path in folder.glob(f"*_{process_.pid}.db")]


def test_counts_of_ended_processes_stay_and_their_gauges_go(folder: Path, living: subprocess.Popen[str]) -> None:
    run(COUNT, folder)
    run(COUNT, folder)
    for _ in range(2):  # reading changes nothing
        found = values(folder)
        assert found["sambung:resumes_total"] == 9
        assert found["sambung:http_requests_total"] == 3
        assert found["sambung:listeners"] == 2
    # Two sets of files were left, and are one now.
    numbered = {path.name.rpartition("_")[2] for path in folder.glob("*.db")}
    assert numbered == {f"{living.pid}.db", "ended.db"}


def test_a_process_that_is_killed_counts_as_ended(folder: Path, living: subprocess.Popen[str]) -> None:
    assert files_of(folder, living)
    living.kill()
    living.wait(60)
    assert values(folder)["sambung:resumes_total"] == 3
    assert "sambung:listeners" not in values(folder)
    assert files_of(folder, living) == []


def test_a_process_with_the_number_of_one_that_was_killed_has_none_of_its_listeners(
    folder: Path, living: subprocess.Popen[str]
) -> None:
    living.kill()
    living.wait(60)
    take_over = f"""
import os, pathlib
for path in pathlib.Path({str(folder)!r}).glob("*_{living.pid}.db"):
    path.rename(path.with_name(path.name.replace("{living.pid}", str(os.getpid()))))
"""
    shown = run(take_over + COUNT + SHOW, folder)
    assert "sambung:listeners 2.0" in shown
    assert "sambung:resumes_total 6.0" in shown


@pytest.mark.parametrize("content", [b"", b"\x01", b"no file of metrics " * 10])
@pytest.mark.parametrize("name", ["counter_999999999.db", "counter_1.db", "counter_other.db"])
def test_a_file_that_cannot_be_read_hides_no_other(
    folder: Path, living: subprocess.Popen[str], name: str, content: bytes
) -> None:
    (folder / name).write_bytes(content)
    assert values(folder)["sambung:resumes_total"] == 3


def test_any_process_shows_those_of_all(folder: Path, living: subprocess.Popen[str]) -> None:
    shown = run(SHOW, folder)
    assert "sambung:resumes_total 3.0" in shown
    assert "# TYPE sambung:resumes_total counter" in shown


def test_a_folder_that_cannot_be_made_is_said_by_the_name_of_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    kept = {**os.environ, "ENV_FILE": os.devnull, "SECRET_KEY": "x" * 60, "METRICS_DIR": str(tmp_path / "file" / "x")}
    done = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=ROOT, env=kept, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "METRICS_DIR" in line
