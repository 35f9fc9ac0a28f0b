"""The SQLite file is created for its owner alone, and an existing one is left as it is."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from sessions_app.sqlite_file import create_file


def mode_of(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    create_file(tmp_path / "new.db")
    assert mode_of(tmp_path / "new.db") == 0o600


def test_an_existing_file_keeps_its_mode_and_its_content(tmp_path: Path) -> None:
    file = tmp_path / "old.db"
    file.write_bytes(b"SQLite")
    file.chmod(0o440)
    create_file(str(file))
    assert (mode_of(file), file.read_bytes()) == (0o440, b"SQLite")


def test_a_folder_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        create_file(tmp_path / "missing" / "new.db")
