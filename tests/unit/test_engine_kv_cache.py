from __future__ import annotations

import torch

from inference.engine.kv_cache import SlotCache

HEADS, SIZE = 2, 4


def fill(cache: SlotCache, row: int, length: int, value: float) -> None:
    states = torch.full((1, HEADS, length, SIZE), value)
    cache.enter_prefill(row)
    cache.past_key_values.update(states, states, 0)


def add(cache: SlotCache, positions: list[int], value: float) -> torch.Tensor:
    states = torch.full((len(positions), HEADS, 1, SIZE), value)
    cache.enter_decode(torch.arange(len(positions)), torch.tensor(positions), max(positions) + 1)
    return cache.past_key_values.update(states, states, 0)[0][:, 0, :, 0]


def test_rows_keep_what_they_hold_while_the_cache_grows() -> None:
    cache = SlotCache(1, max_rows=8)
    cache.reserve(rows=1, length=4, used_rows=0, used_length=0)
    fill(cache, 0, 3, 1.0)
    small = cache.nbytes
    cache.reserve(rows=2, length=300, used_rows=1, used_length=3)
    fill(cache, 1, 2, 2.0)
    assert cache.nbytes == 4 * small
    assert add(cache, [3, 2], 7.0).tolist() == [[1, 1, 1, 7], [2, 2, 7, 0]]


def test_a_row_moves_over_another() -> None:
    cache = SlotCache(1, max_rows=2)
    cache.reserve(rows=2, length=4, used_rows=0, used_length=0)
    fill(cache, 0, 3, 1.0)
    fill(cache, 1, 2, 2.0)
    cache.move(1, 0, 2)
    assert add(cache, [2], 7.0).tolist() == [[2, 2, 7]]


def test_memory_follows_use_down_as_well() -> None:
    cache = SlotCache(1, max_rows=8)
    cache.reserve(rows=8, length=2000, used_rows=0, used_length=0)
    fill(cache, 0, 100, 1.0)
    large = cache.nbytes
    cache.reserve(rows=1, length=101, used_rows=1, used_length=100)
    assert cache.nbytes < large / 8
    assert add(cache, [100], 7.0)[0].tolist() == [1.0] * 100 + [7.0]
    cache.release()
    assert cache.nbytes == 0


def test_rows_never_exceed_the_most_that_may_run() -> None:
    cache = SlotCache(1, max_rows=5)
    cache.reserve(rows=5, length=10, used_rows=0, used_length=0)
    fill(cache, 4, 1, 1.0)
    assert cache.nbytes == 2 * 5 * HEADS * 256 * SIZE * 4
