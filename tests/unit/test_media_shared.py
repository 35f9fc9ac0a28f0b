"""Pixels that come from a process which decodes, without going through its pipe."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest

from inference.media.decoding import DecodingPool
from inference.media.shared import PixelBuffer, Place, Placed, SharedPixels

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="the system has no memory without a name")


def fill(place: Place | None, value: int, rows: int = 3) -> np.ndarray | Placed:
    """What a piece of work does: it fills as many of its four rows."""
    buffer = PixelBuffer(place)
    pixels = buffer.empty((4, 5, 3))
    pixels[...] = value
    return buffer.result(pixels[:rows])


def open_memory() -> int:
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum("memfd:pixels" in str(link.readlink()) for link in links)


def test_what_a_process_has_put_there_is_read_by_its_server() -> None:
    pool = DecodingPool(processes=1, pixels=1, memory_mb=100)
    pool.start()
    try:
        with SharedPixels() as shared:
            job = pool.submit(fill, (shared.place, 7), kind="image", param=None, pixels=1, cpu_seconds=20)
            placed = job.result(60)
            assert isinstance(placed, Placed)
            pixels = shared.pixels(placed)
    finally:
        pool.stop()
    assert pixels.shape == (3, 5, 3)
    assert (pixels == 7).all()
    # It belongs to the server alone.
    pixels[0] = 1
    assert pixels.sum() == 15 + 2 * 15 * 7


def test_nothing_stays_open() -> None:
    for _ in range(3):
        with SharedPixels() as shared:
            pixels = shared.pixels(fill(shared.place, 1))
    del pixels
    gc.collect()
    assert open_memory() == 0


def test_memory_that_is_gone_is_not_taken_for_another_file(tmp_path: Path) -> None:
    with SharedPixels() as shared:
        place = shared.place
    assert place is not None
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    result = fill(place, 1)
    assert isinstance(result, np.ndarray)
    # The server has opened another file under the same number meanwhile.
    result = fill(Place(str(other), place.identity), 1)
    assert isinstance(result, np.ndarray)
    assert other.read_bytes() == b"precious"


def test_without_shared_memory_pixels_go_through_the_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    with SharedPixels() as shared:
        assert shared.place is None
        assert (shared.pixels(fill(shared.place, 3)) == 3).all()
