"""The files of ``METRICS_DIR``: one set per process, read together; those of dead processes are folded into one.

``prometheus_client`` leaves a dead process's files where they are. Its gauges would count for ever, and with every
restart there would be more files; removing its counters would make the sums fall, which Prometheus takes for a restart.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import psutil
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

log = logging.getLogger(__name__)

#: names such as gauge_livesum_4711.db and counter_4711.db
OF_PROCESS = re.compile(r"(?P<kind>[a-z]+(?:_[a-z]+)?)_(?P<pid>\d+)\.db")
#: errors raised by a file that is cut off or is no metric file
UNREADABLE = (OSError, ValueError, RuntimeError, struct.error)
LOCK = "lock"


def read_files(folder: Path) -> list[Metric]:
    """The values of all processes together. A file that cannot be read is left out, with a line in the log."""
    with _locked(folder):
        _fold_dead(folder)
        files = [str(path) for path in sorted(folder.glob("*.db"))]
        try:
            return list(MultiProcessCollector.merge(files))
        except UNREADABLE:
            return list(MultiProcessCollector.merge([path for path in files if _is_readable(path)]))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder, so that concurrent scrapes in any processes never see half-folded values."""
    with (folder / LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fold_dead(folder: Path) -> None:
    alive: dict[int, bool] = {}
    for path in sorted(folder.glob("*.db")):
        if (named := OF_PROCESS.fullmatch(path.name)) is None:
            continue
        pid = int(named["pid"])
        if alive.setdefault(pid, psutil.pid_exists(pid)):
            continue
        # Gauges describe a live process, so they are removed with it.
        if not named["kind"].startswith("gauge"):
            try:
                _add(path, folder / f"{named['kind']}_ended.db")
            except UNREADABLE as exc:
                log.warning("the metrics file %s cannot be read and is removed: %s", path.name, exc)
        path.unlink(missing_ok=True)


def _add(source: Path, target: Path) -> None:
    """Add the counts of one file to those of another."""
    values = list(MmapedDict.read_all_values_from_file(str(source)))
    total = MmapedDict(str(target))
    try:
        for key, value, _, _ in values:
            total.write_value(key, total.read_value(key)[0] + value, 0.0)
    finally:
        total.close()


def _is_readable(path: str) -> bool:
    try:
        for _ in MmapedDict.read_all_values_from_file(path):
            pass
    except UNREADABLE as exc:
        log.warning("the metrics file %s cannot be read: %s", path, exc)
        return False
    return True
