from __future__ import annotations

import collections
from typing import Any

import pytest
import torch

from inference.engine.sampling import Sampler, uniform
from inference.engine.types import Sampling


def sampler(rows: list[Sampling], **options: Any) -> Sampler:
    defaults: dict[str, Any] = {"eos_token_ids": (), "placeholders": (), "device": torch.device("cpu")}
    return Sampler(rows, **{**defaults, **options})


def draws(logits: torch.Tensor, count: int, **settings: Any) -> collections.Counter[int]:
    """The tokens drawn for the first ``count`` places of one generation."""
    rows = [Sampling(max_tokens=count, **settings)] * count
    return collections.Counter(sampler(rows).sample(logits.repeat(count, 1), list(range(count))))


def test_draws_are_uniform() -> None:
    bins = collections.Counter(int(uniform(seed, index) * 20) for seed in range(20) for index in range(1000))
    assert set(bins) == set(range(20))
    # 20,000 draws in 20 bins: the standard deviation of a bin is 31.
    assert all(abs(count - 1000) < 5 * 31 for count in bins.values())


def test_draws_of_neighbouring_seeds_and_places_are_unrelated() -> None:
    def correlation(a: list[float], b: list[float]) -> float:
        return float(torch.corrcoef(torch.tensor([a, b]))[0, 1])

    places = range(4000)
    base = [uniform(1, i) for i in places]
    assert abs(correlation(base, [uniform(2, i) for i in places])) < 0.08
    assert abs(correlation(base, [uniform(1, i + 1) for i in places])) < 0.08


def test_a_draw_is_the_same_on_every_machine() -> None:
    assert uniform(0, 0) == 0.8336885269740499
    assert uniform(-1, 5) == uniform(-1, 5)
    assert 0 <= uniform(2**80, 10**9) < 1


def test_temperature_zero_takes_the_likeliest_token() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, 3.0, 1.0]])
    assert sampler([Sampling(max_tokens=1), Sampling(max_tokens=1)]).sample(logits, [0, 0]) == [1, 0]


def test_tokens_come_with_their_probabilities() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    counts = draws(probabilities.log(), 4000, temperature=1.0, seed=3)
    for token, probability in enumerate(probabilities.tolist()):
        assert counts[token] / 4000 == pytest.approx(probability, abs=0.03)


def test_temperature_sharpens() -> None:
    counts = draws(torch.tensor([0.6, 0.4]).log(), 4000, temperature=0.5, seed=3)
    assert counts[0] / 4000 == pytest.approx(0.36 / 0.52, abs=0.03)


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.5, {1}), (0.51, {1, 3}), (0.8, {1, 3}), (0.9, {0, 1, 3}), (1.0, {0, 1, 2, 3})]
)
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p: float, kept: set[int]) -> None:
    # In float64 half of the mass is exactly half.
    logits = torch.tensor([0.15, 0.5, 0.05, 0.3]).log()
    assert set(draws(logits, 2000, temperature=1.0, top_p=top_p, seed=9)) == kept


def test_top_p_zero_takes_the_likeliest_token() -> None:
    assert set(draws(torch.tensor([0.2, 0.5, 0.3]).log(), 50, temperature=1.0, top_p=0.0)) == {1}


def test_a_tiny_temperature_does_not_overflow() -> None:
    assert set(draws(torch.tensor([1e4, 1e4 - 1, -1e4]), 20, temperature=1e-6)) == {0}


def test_a_row_draws_the_same_in_any_batch() -> None:
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    rows = [Sampling(max_tokens=9, temperature=t, top_p=p, seed=s) for t, p, s in [
        (0.7, 0.9, 1), (0.0, 1.0, 2), (1.0, 1.0, 3), (1.3, 0.5, 4), (0.0, 0.3, 5), (0.7, 1.0, 6),
    ]]  # fmt: skip
    indexes = [4, 0, 8, 1, 3, 100]
    alone = [sampler([r]).sample(logits[i : i + 1].clone(), [indexes[i]])[0] for i, r in enumerate(rows)]
    assert sampler(rows).sample(logits.clone(), indexes) == alone


def test_the_global_generator_of_torch_is_not_used() -> None:
    before = torch.get_rng_state()
    draws(torch.zeros(10), 20, temperature=1.0)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_end_before_min_tokens_and_never_a_placeholder() -> None:
    logits = torch.tensor([[1.0, 9.0, 5.0, 99.0]])
    rows = [Sampling(max_tokens=9, min_tokens=2)]
    sample = sampler(rows, eos_token_ids=(1,), placeholders=(3,)).sample
    assert [sample(logits.clone(), [generated]) for generated in (0, 1, 2)] == [[2], [2], [1]]
