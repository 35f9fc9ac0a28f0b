from __future__ import annotations

import hashlib
import math

import torch

from inference.engine.noise import Noise

CPU = torch.device("cpu")
WORD = 2**64


def next_of(noise: Noise, size: int) -> torch.Tensor:
    return torch.cat([numbers for _, numbers in noise.next(size)])


def noise(seeds: list[int], places: list[int], size: int) -> torch.Tensor:
    return next_of(Noise(seeds, places, device=CPU), size)


def splitmix64(state: int) -> int:
    """The published algorithm on Python's whole numbers."""
    z = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


def test_the_numbers_are_those_of_splitmix64_at_any_seed_and_place() -> None:
    seeds, places = [0, -5, 2**80], [0, 7, 10**6]
    got = noise(seeds, places, 40)
    for row, (seed, place) in enumerate(zip(seeds, places, strict=True)):
        start = int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=8).digest(), "big")
        for token in range(40):
            word = splitmix64((start + place * 0xD1342543DE82EF95 + (token + 1) * 0x9E3779B97F4A7C15) % WORD)
            # Signed words, so 0 is in the middle.
            signed = word - WORD if word >= WORD // 2 else word
            assert got[row, token].item() == math.log(((signed >> 12) + 0.5) / 2**52 + 0.5)


def test_splitmix64_here_is_the_published_one() -> None:
    # The first outputs of the reference implementation from the state 1234567.
    states = [(1234567 + n * 0x9E3779B97F4A7C15) % WORD for n in (1, 2, 3)]
    assert [splitmix64(state) for state in states] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_a_place_has_its_numbers_however_one_comes_to_it() -> None:
    for size in (3, 512, 20_000, 200_000):
        walked = Noise([1, 2], [0, 5], device=CPU)
        steps = [next_of(walked, size) for _ in range(20)]
        for step in (0, 1, 7, 8, 15, 16, 19):
            assert torch.equal(steps[step], noise([1, 2], [step, 5 + step], size))


def test_a_row_and_a_token_have_their_numbers_in_any_company() -> None:
    many = noise([4, 9, 6], [1, 2, 3], 900)
    assert torch.equal(noise([9], [2], 900), many[1:2])
    assert torch.equal(noise([9], [2], 100), many[1:2, :100])


def test_the_numbers_are_even_and_unrelated_between_seeds_places_and_tokens() -> None:
    numbers = {
        (seed, place): noise([seed], [place], 40_000)[0].exp() for seed in (0, 1, 2) for place in (0, 1, 2, 1000)
    }
    for drawn in numbers.values():
        bins = torch.histc(drawn, bins=50, min=0, max=1)
        # 49 degrees of freedom: above 94 comes once in ten thousand times.
        assert ((bins - 800) ** 2 / 800).sum() < 94
    every = torch.stack([*numbers.values(), numbers[0, 0].roll(1), numbers[0, 0].roll(7)])
    related = torch.corrcoef(every) - torch.eye(len(every))
    # The standard deviation of a correlation is 0.005.
    assert related.abs().max() < 0.025


def test_neither_zero_nor_minus_infinity_comes_up() -> None:
    drawn = noise([3], [0], 2_000_000)
    assert drawn.max() < 0 and drawn.isfinite().all()


def test_the_global_generator_of_torch_is_not_used() -> None:
    before = torch.get_rng_state()
    noise([1], [0], 100)
    assert torch.equal(torch.get_rng_state(), before)
