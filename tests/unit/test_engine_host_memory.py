from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from inference.engine import devices
from inference.engine.devices import ControlGroup, free_host_bytes, total_host_bytes

Write = Callable[..., None]


@pytest.fixture(params=["inactive_file", "total_inactive_file"], ids=["version 2", "version 1"])
def write(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Write:
    """write(limit=…, used=…, cached=…): the memory of the container that this process is in, in bytes"""
    limit_file, used_file, statistics = (tmp_path / name for name in ("limit", "used", "stat"))
    nowhere = ControlGroup(tmp_path / "absent", tmp_path / "absent", tmp_path / "absent", "absent")
    group = ControlGroup(limit_file, used_file, statistics, request.param)
    monkeypatch.setattr(devices, "CONTROL_GROUPS", (nowhere, group))

    def write_files(*, limit: int | str, used: int, cached: int) -> None:
        limit_file.write_text(f"{limit}\n")
        used_file.write_text(f"{used}\n")
        statistics.write_text(f"anon 700\nactive_file 90\n{request.param} {cached}\nslab 80\n")

    return write_files


def test_the_limit_of_a_container_counts(write: Write) -> None:
    write(limit=5000, used=2000, cached=0)
    assert free_host_bytes() == 3000
    write(limit="max", used=2000, cached=0)
    assert free_host_bytes() > 3000


def test_cached_pages_of_files_are_free(write: Write) -> None:
    # As after a download of the weights, which leaves the cache of a container full.
    write(limit=5000, used=4900, cached=4000)
    assert free_host_bytes() == 4100
    write(limit=5000, used=3000, cached=4000)
    assert free_host_bytes() == 5000


def test_the_limit_counts_without_statistics_too(write: Write, tmp_path: Path) -> None:
    write(limit=5000, used=2000, cached=500)
    (tmp_path / "stat").unlink()
    assert free_host_bytes() == 3000


def test_a_container_above_its_limit_has_nothing_free(write: Write) -> None:
    write(limit=5000, used=6000, cached=100)
    assert free_host_bytes() == 0


def test_the_memory_in_all_is_the_limit_whatever_is_in_use(write: Write) -> None:
    for used in (0, 3000):
        write(limit=5000, used=used, cached=100)
        assert total_host_bytes() == 5000
    write(limit="max", used=2000, cached=0)
    assert total_host_bytes() > 5000
