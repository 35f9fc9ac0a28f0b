"""Keeps a choice that was measured once, so that it is the same at the next start and for workers beside this one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

logger = logging.getLogger(__name__)


def kept_choice(
    folder: Path | None, subject: Mapping[str, str | int], options: tuple[str, ...], decide: Callable[[], str]
) -> str:
    """The one of ``options`` that a file in ``folder`` has for ``subject``, else what ``decide`` returns, kept there.

    There is one file for each subject. Of workers that decide at the same time the first one to write it wins, and the
    others take its choice. Without a folder, or with one that cannot be written, nothing is kept.
    """
    if folder is None:
        return decide()
    path = folder / f"{hashlib.sha256(json.dumps(subject, sort_keys=True).encode()).hexdigest()[:24]}.json"
    found = _read(path, options)
    if found is not None:
        logger.info("%s is kept from an earlier start in %s; without that file it is measured again", found, path)
        return found
    is_damaged = path.exists()
    chosen = decide()
    try:
        _write(path, json.dumps({**subject, "choice": chosen}, indent=2) + "\n", replace=is_damaged)
    except OSError as error:
        logger.warning("the choice of %s is not kept for the next start: %s", chosen, error)
    return _read(path, options) or chosen


def _read(path: Path, options: tuple[str, ...]) -> str | None:
    """None where there is no file, or none of ours."""
    try:
        choice = json.loads(path.read_text())["choice"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return choice if choice in options else None


def _write(path: Path, text: str, *, replace: bool) -> None:
    """Write a whole file at once. Unless it is to ``replace`` a damaged one, a file that appeared meanwhile stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, written = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        if replace:
            Path(written).replace(path)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(written, path)
    finally:
        Path(written).unlink(missing_ok=True)
