"""Creates the SQLite file, before SQLite does so with the mode that the process gives to every file."""

from __future__ import annotations

import contextlib
from pathlib import Path


def create_file(path: str | Path) -> None:
    """Create the file for its owner alone; one that exists keeps its mode. WAL files get its mode.

    Raises OSError.
    """
    with contextlib.suppress(FileExistsError):
        Path(path).touch(mode=0o600, exist_ok=False)
