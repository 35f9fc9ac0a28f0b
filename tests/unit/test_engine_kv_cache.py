from __future__ import annotations

import torch

from inference.engine.kv_cache import SlotCache

HEADS, SIZE = 2, 4


def fill(cache: SlotCache, row: int, length: int, value: float, used_length: int = 0) -> None:
    cache.insert(row, [torch.full((1, 2 * HEADS, length, SIZE), value)], used_length)


def add(cache: SlotCache, positions: list[int], value: float) -> torch.Tensor:
    states = torch.full((len(positions), HEADS, 1, SIZE), value)
    cache.enter_step(len(positions), torch.tensor(positions), max(positions))
    return cache.past_key_values.update(states, states, 0)[0][:, 0, :, 0]


def test_rows_keep_what_they_hold_while_the_cache_grows() -> None:
    cache = SlotCache(1, max_rows=8, max_tokens=10_000)
    fill(cache, 0, 3, 1.0)
    small = cache.nbytes
    fill(cache, 1, 300, 2.0, used_length=3)
    assert cache.nbytes == 4 * small
    cache.move(1, 0, 2)
    assert add(cache, [2, 1], 7.0).tolist() == [[2, 2, 7], [2, 7, 2]]


def test_a_row_moves_over_another() -> None:
    cache = SlotCache(1, max_rows=2, max_tokens=10_000)
    fill(cache, 0, 3, 1.0)
    fill(cache, 1, 2, 2.0, used_length=3)
    cache.move(1, 0, 2)
    assert add(cache, [2], 7.0).tolist() == [[2, 2, 7]]


def test_memory_follows_use_down_as_well() -> None:
    cache = SlotCache(1, max_rows=8, max_tokens=100_000)
    for row in range(8):
        fill(cache, row, 2000, 1.0, used_length=2000)
    large = cache.nbytes
    assert add(cache, [100], 7.0)[0].tolist() == [1.0] * 100 + [7.0]
    assert cache.nbytes < large / 8
    cache.release()
    assert cache.nbytes == 0


def test_rows_never_exceed_the_most_that_may_run() -> None:
    cache = SlotCache(1, max_rows=5, max_tokens=10_000)
    for row in range(5):
        fill(cache, row, 1, 1.0, used_length=1)
    assert cache.nbytes == 2 * 5 * HEADS * 256 * SIZE * 4


def test_what_is_allocated_never_exceeds_what_may_be_held() -> None:
    cache = SlotCache(1, max_rows=8, max_tokens=1000)
    one_token = 2 * HEADS * SIZE * 4
    fill(cache, 0, 200, 1.0)
    fill(cache, 1, 200, 2.0, used_length=200)
    fill(cache, 2, 330, 3.0, used_length=200)
    assert not cache.fits(4, 331) and cache.fits(3, 331)
    assert cache.nbytes <= 1000 * one_token
    assert add(cache, [200, 200, 330], 7.0)[:, 199].tolist() == [1.0, 2.0, 3.0]
    assert cache.nbytes <= 1000 * one_token


def layouts(cache: SlotCache, needed: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The capacities that a cache has one after the other, when it needs so many rows and positions."""
    found: list[tuple[int, int]] = []
    for rows, length in needed:
        cache.reserve(rows, length, 0, 0, [torch.zeros(1, 2 * HEADS, 1, SIZE)])
        if cache.capacity not in found[-1:]:
            found.append(cache.capacity)
    return found


def test_a_steady_cache_has_all_rows_and_its_length_doubles() -> None:
    cache = SlotCache(1, max_rows=4, max_tokens=100_000, steady=True)
    growing = [(1, length) for length in range(1, 5000)]
    assert layouts(cache, [*growing, (4, 4000), (1, 1)]) == [(4, 2048), (4, 4096), (4, 8192)]


def test_a_steady_cache_changes_seldom_near_its_limit() -> None:
    cache = SlotCache(1, max_rows=64, max_tokens=100_000, steady=True)
    growing = [(20, length) for length in range(1, 5001)]
    assert layouts(cache, growing) == [(64, 1562), (32, 2048), (32, 3125), (24, 4096), (24, 4166), (20, 5000)]
    assert layouts(cache, [(21, 2000), (33, 100)]) == [(32, 2048), (64, 1562)]
    joining = [(rows, 1600) for rows in range(1, 63)]
    assert layouts(cache, joining) == [(32, 2048), (40, 2048), (48, 2048), (56, 1785), (62, 1612)]


def test_a_steady_cache_keeps_its_memory_until_it_is_released_as_a_whole() -> None:
    cache = SlotCache(1, max_rows=2, max_tokens=10_000, steady=True)
    fill(cache, 0, 3, 1.0)
    layout = cache.layout
    cache.release()
    fill(cache, 0, 3, 2.0)
    assert cache.layout == layout and cache.nbytes == 2 * 2048 * 2 * HEADS * SIZE * 4
    cache.release(whole=True)
    assert cache.nbytes == 0
