from __future__ import annotations

from collections.abc import Sequence

import torch

from inference.engine.prefix_cache import BLOCK_TOKENS, PrefixCache, block_digests


def states_of(keys: Sequence[int]) -> list[torch.Tensor]:
    """Two layers of states that tell the tokens apart, [2 x heads, tokens, head size]."""
    one = torch.tensor(keys, dtype=torch.float32)[None, :, None].expand(4, -1, 8)
    return [one, -one]


def keep(cache: PrefixCache, keys: Sequence[int]) -> None:
    cache.store(block_digests(keys), states_of(keys))


def loaded(cache: PrefixCache, keys: Sequence[int]) -> list[int]:
    states = cache.load(block_digests(keys))
    if not states:
        return []
    assert torch.equal(states[0], -states[1])
    return states[0][0, 0, :, 0].int().tolist()


def numbers(blocks: int, start: int = 0) -> list[int]:
    return list(range(start, start + blocks * BLOCK_TOKENS))


def test_a_known_beginning_is_found_up_to_the_first_difference() -> None:
    cache = PrefixCache(max_tokens=10 * BLOCK_TOKENS)
    keep(cache, numbers(3))
    other = numbers(3)
    other[BLOCK_TOKENS + 5] = 7_777
    assert loaded(cache, numbers(4)) == numbers(3)
    assert loaded(cache, other) == numbers(1)
    assert loaded(cache, numbers(2, start=1)) == []


def test_the_same_block_behind_another_beginning_is_another_one() -> None:
    cache = PrefixCache(max_tokens=10 * BLOCK_TOKENS)
    keep(cache, numbers(2))
    assert loaded(cache, [*numbers(1, start=500), *numbers(2)[BLOCK_TOKENS:]]) == []


def test_what_is_no_whole_block_is_not_kept() -> None:
    cache = PrefixCache(max_tokens=10 * BLOCK_TOKENS)
    keep(cache, numbers(2)[:-1])
    assert loaded(cache, numbers(2)) == numbers(1)
    assert cache.tokens == BLOCK_TOKENS


def test_a_longer_text_adds_only_its_end() -> None:
    cache = PrefixCache(max_tokens=10 * BLOCK_TOKENS)
    keep(cache, numbers(2))
    keep(cache, numbers(4))
    assert cache.tokens == 4 * BLOCK_TOKENS
    assert loaded(cache, numbers(4)) == numbers(4)


def test_the_least_recently_used_make_room_ends_before_beginnings() -> None:
    cache = PrefixCache(max_tokens=4 * BLOCK_TOKENS)
    keep(cache, numbers(2, start=1000))
    keep(cache, numbers(2, start=2000))
    assert loaded(cache, numbers(2, start=1000)) == numbers(2, start=1000)
    keep(cache, numbers(1, start=3000))
    assert loaded(cache, numbers(2, start=1000)) == numbers(2, start=1000)
    assert loaded(cache, numbers(2, start=2000)) == numbers(1, start=2000)
    assert loaded(cache, numbers(1, start=3000)) == numbers(1, start=3000)
    assert cache.tokens == 4 * BLOCK_TOKENS


def test_a_text_larger_than_the_cache_keeps_its_beginning() -> None:
    cache = PrefixCache(max_tokens=2 * BLOCK_TOKENS)
    keep(cache, numbers(5))
    assert loaded(cache, numbers(5)) == numbers(2)


def test_without_room_nothing_is_kept() -> None:
    cache = PrefixCache(max_tokens=0)
    keep(cache, numbers(2))
    assert loaded(cache, numbers(2)) == []
    assert cache.nbytes == 0
