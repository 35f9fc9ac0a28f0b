"""What the commands say when something is not there, and what they leave on the disk."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.stack import ROOT, EmbeddedStack, ScaledStack, free_port

PYTHON = Path(sys.executable).relative_to(ROOT) if Path(sys.executable).is_relative_to(ROOT) else Path(sys.executable)


def manage(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """``manage.py`` with no variables but these, and no .env."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**kept, "ENV_FILE": os.devnull, "SECRET_KEY": "x" * 60, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        ("serve", "PORT", "70000"),
        ("worker", "TIME_ZONE", "Asia/Atlantis"),
        ("check", "SECRET_KEY", ""),
        ("migrate", "DATABASE_URL", "postgres//someone:hunter2@127.0.0.1/sambung"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(command: str, name: str, value: str) -> None:
    done = manage(command, **{name: value})
    assert done.returncode == 2
    assert name in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "hunter2" not in done.stderr
    assert done.stdout == ""


def test_a_wrong_setting_shows_its_stack_to_who_asks_for_it() -> None:
    done = manage("check", "--traceback", PORT="many")
    assert "Traceback" in done.stderr
    assert "PORT must be a whole number" in done.stderr


def test_a_database_that_does_not_answer_is_one_line_without_the_password() -> None:
    port = free_port()
    done = manage("serve", DATABASE_URL=f"postgres://someone:hunter2@127.0.0.1:{port}/sambung")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert f"The database does not answer at 127.0.0.1, port {port}" in line
    assert "hunter2" not in line


@pytest.mark.parametrize("content", [None, b"this is no database, " * 99])
def test_a_database_file_that_cannot_be_opened_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "missing" / "sessions.db" if content is None else tmp_path / "sessions.db"
    if content is not None:
        path.write_bytes(content)
    done = manage("serve", SESSIONS_DB_PATH=str(path))
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert f"The database file {path} cannot be opened" in line
    assert "SESSIONS_DB_PATH" in line


@pytest.mark.parametrize("command", ["serve", "web"])
@pytest.mark.parametrize("port", ["70000", "-1", "http"])
def test_a_port_that_is_none_is_refused(command: str, port: str) -> None:
    done = manage(command, "--port", port)
    assert done.returncode == 2
    assert f"{command}: error: argument --port: must be from 0 to 65535; it is {port}." in done.stderr


def test_what_serves_nobody_needs_no_settings(tmp_path: Path) -> None:
    done = manage("make_specimens", str(tmp_path / "cards"), "--count", "1", SECRET_KEY="")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "cards" / "labels.jsonl").is_file()


def test_a_data_key_is_made_before_there_are_settings() -> None:
    done = manage("make_data_key", "--id", "first", SECRET_KEY="")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("first:")


def test_the_pictures_of_the_sandbox_are_made_without_settings(tmp_path: Path) -> None:
    done = manage("make_ktp_sandbox", str(tmp_path / "sandbox"), SECRET_KEY="")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "sandbox" / "read.png").is_file()


def test_help_needs_no_settings() -> None:
    done = manage("serve", "--help", SECRET_KEY="")
    assert done.returncode == 0
    assert "--port PORT" in done.stdout


def test_serve_with_a_broker_names_the_commands_to_paste() -> None:
    done = manage("serve", REDIS_URL="redis://127.0.0.1:1/0")
    assert done.returncode == 1
    assert f"\n  {PYTHON} manage.py web\n  {PYTHON} manage.py worker\n" in done.stderr


def test_a_device_that_is_none_stops_the_start() -> None:
    done = manage("serve", DEVICE_MAP="gpu")
    assert done.returncode == 1
    assert "DEVICE_MAP is 'gpu'" in done.stderr


def test_a_database_file_that_migrate_creates_is_its_owners_alone(tmp_path: Path) -> None:
    done = manage("migrate", SESSIONS_DB_PATH=str(tmp_path / "new.db"))
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE((tmp_path / "new.db").stat().st_mode) == 0o600


def test_the_database_file_is_its_owners_alone(embedded_server: EmbeddedStack) -> None:
    files = list(embedded_server.folder.glob("sessions.db*"))
    assert {file.name for file in files} == {"sessions.db", "sessions.db-wal", "sessions.db-shm"}
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name


def test_the_welcome_says_how_to_make_the_first_user_until_there_is_one(
    start_embedded: Callable[..., EmbeddedStack],
) -> None:
    stack = start_embedded()
    hint = f"{PYTHON} manage.py createsuperuser"
    assert hint in stack.logs()
    stack.stop()
    stack.run_python(
        "import django; django.setup()\n"
        "from django.contrib.auth.models import User\n"
        "User.objects.create_user('operator')\n"
    )
    before = len(stack.logs())
    stack.start()
    assert " is listening. The model loads" in stack.logs()[before:]
    assert hint not in stack.logs()[before:]


@pytest.mark.redis
@pytest.mark.postgresql
def test_a_worker_says_in_one_line_that_it_starts(scaled_server: ScaledStack) -> None:
    log = scaled_server.processes["worker"].log.read_text()
    assert log.count("starts with the model") == 1
    for banner in ("[config]", "[queues]", "transport:"):
        assert banner not in log


@pytest.mark.postgresql
def test_a_database_that_refuses_is_one_line(scaled_server: ScaledStack) -> None:
    url = scaled_server.env["DATABASE_URL"] + "_that_is_not_there"
    done = manage("serve", DATABASE_URL=url)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "The database refuses at" in line
    assert "does not exist" in line
