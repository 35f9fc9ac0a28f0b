"""How many rows a batch has where no setting says it: as many as the memory has room for, within bounds."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from inference.engine import memory
from inference.engine.memory import default_rows, kv_budget


def bytes_for(rows: int, loaded: Any, tokens: int = 1024) -> int:
    """Memory with room for so many rows, without one for prefixes."""
    return rows * tokens * kv_budget(loaded, max_rows=1, max_bytes=2**40, reuse_prefixes=False).token_bytes


@pytest.mark.parametrize(("room", "rows"), [(1, 4), (4, 4), (9, 9), (32, 32), (500, 32)])
def test_rows_are_what_fits_and_no_more_than_a_cpu_gains_from(loaded: Any, room: int, rows: int) -> None:
    assert default_rows(loaded, max_bytes=bytes_for(room, loaded), reuse_prefixes=False) == rows


def test_what_is_kept_for_prefixes_is_no_room_for_rows(loaded: Any) -> None:
    assert default_rows(loaded, max_bytes=bytes_for(20, loaded), reuse_prefixes=True) == 15


def test_without_a_limit_the_memory_that_is_free_counts(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_free_bytes", lambda device: bytes_for(7, loaded))
    assert default_rows(loaded, max_bytes=None, reuse_prefixes=False) == 7


def test_a_gpu_has_room_for_more(loaded: Any) -> None:
    on_gpu = dataclasses.replace(loaded, device=torch.device("cuda"))
    assert default_rows(on_gpu, max_bytes=bytes_for(500, loaded), reuse_prefixes=False) == 64


def test_a_model_of_a_short_context_has_short_rows(loaded: Any) -> None:
    short = dataclasses.replace(loaded, context_length=256)
    assert default_rows(short, max_bytes=bytes_for(9, loaded, tokens=256), reuse_prefixes=False) == 9
