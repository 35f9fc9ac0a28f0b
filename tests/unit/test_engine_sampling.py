from __future__ import annotations

import collections
import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from inference.engine.sampling import Sampled, Sampler
from inference.engine.truncation import Truncation
from inference.engine.types import Sampling

CPU = torch.device("cpu")


@dataclasses.dataclass
class Row:
    """A generation, as far as the sampler looks at it."""

    sampling: Sampling
    prompt_ids: torch.Tensor
    generated_ids: Sequence[int]
    matcher: Any = None
    forced_token: int | None = None
    bad_words: Any = ()


def row(*, prompt: Sequence[int] = (), generated: Sequence[int] = (), **sampling: Any) -> Row:
    return Row(
        Sampling(**{"max_tokens": 99, **sampling}), torch.tensor(list(prompt), dtype=torch.long), list(generated)
    )


def sampler(rows: Sequence[Row], **options: Any) -> Sampler:
    return Sampler(rows, **{"eos_token_ids": (), "placeholders": (), "device": CPU, **options})


def sample(logits: torch.Tensor, *rows: Row, **options: Any) -> Sampled:
    return sampler(rows, **options).sample(logits.clone())


def draws(logits: torch.Tensor, count: int, **settings: Any) -> collections.Counter[int]:
    """The tokens drawn for the first ``count`` places of one generation."""
    made = sampler([row(**settings)])
    return collections.Counter(made.sample(logits[None].clone()).tokens[0] for _ in range(count))


def random_logits(rows: int, vocabulary: int, seed: int = 0) -> torch.Tensor:
    return 4 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))


# --- the draw ---


def test_temperature_zero_takes_the_likeliest_token() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, 3.0, 1.0]])
    assert sample(logits, row(), row()).tokens == [1, 0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_tokens_come_with_the_probabilities_of_the_softmax(temperature: float) -> None:
    logits = 2 * random_logits(1, 12)[0] / 4
    expected = 15_000 * torch.softmax(logits / temperature, dim=0)
    counts = draws(logits, 15_000, temperature=temperature, seed=3)
    # What is expected less than five times is taken together, as the test wants it.
    rare = expected < 5
    found = torch.tensor([float(counts[token]) for token in range(12)])
    cells = [*zip(found[~rare], expected[~rare], strict=True), (found[rare].sum(), expected[rare].sum().clamp(min=1))]
    statistic = float(sum((seen - hoped) ** 2 / hoped for seen, hoped in cells))
    # At most 12 degrees of freedom: above 39 comes once in ten thousand times.
    assert statistic < 39


def test_a_tiny_temperature_does_not_overflow() -> None:
    assert set(draws(torch.tensor([1e4, 1e4 - 1, -1e4]), 20, temperature=1e-6)) == {0}


def test_a_small_change_of_the_logits_seldom_changes_a_draw() -> None:
    logits = random_logits(2000, 512)
    rows = [row(temperature=1.0, seed=seed) for seed in range(2000)]
    changed = logits * (1 + 1e-6 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(1)))
    pairs = zip(sample(logits, *rows).tokens, sample(changed, *rows).tokens, strict=True)
    assert sum(a != b for a, b in pairs) <= 1


# --- what is cut off ---


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.5, {1}), (0.51, {1, 3}), (0.8, {1, 3}), (0.9, {0, 1, 3}), (1.0, {0, 1, 2, 3})]
)
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p: float, kept: set[int]) -> None:
    # In float64 half of the mass is exactly half.
    logits = torch.tensor([0.15, 0.5, 0.05, 0.3]).log()
    assert set(draws(logits, 2000, temperature=1.0, top_p=top_p, seed=9)) == kept


def test_top_p_zero_takes_the_likeliest_token() -> None:
    assert set(draws(torch.tensor([0.2, 0.5, 0.3]).log(), 50, temperature=1.0, top_p=0.0)) == {1}


def kept(logits: torch.Tensor, *samplings: Sampling) -> torch.Tensor:
    temperatures = torch.tensor([[s.temperature] for s in samplings], dtype=torch.float64)
    cut = logits.clone()
    Truncation(samplings, temperatures=temperatures).apply(cut, cut.amax(dim=-1, keepdim=True))
    return cut.isfinite()


@pytest.mark.parametrize(
    "settings",
    [
        {"top_k": 1},
        {"top_k": 40},
        {"top_k": 10_000},
        {"top_p": 0.3},
        {"top_p": 0.95},
        {"min_p": 0.02},
        {"min_p": 1.0},
        {"min_p": 0.01, "top_k": 30},
        {"top_k": 25, "top_p": 0.8},
        {"min_p": 0.001, "top_k": 50, "top_p": 0.99},
    ],
    ids=str,
)
@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.0])
def test_cuts_are_those_of_transformers(settings: dict[str, Any], temperature: float) -> None:
    logits = random_logits(20, 700, seed=5)
    scores = TemperatureLogitsWarper(temperature)(None, logits.double())
    if "min_p" in settings:
        scores = MinPLogitsWarper(settings["min_p"])(None, scores)
    if "top_k" in settings:
        scores = TopKLogitsWarper(settings["top_k"])(None, scores)
    if "top_p" in settings:
        scores = TopPLogitsWarper(settings["top_p"])(None, scores)
    sampling = Sampling(max_tokens=1, temperature=temperature, **settings)
    assert torch.equal(kept(logits, *[sampling] * 20), scores.isfinite())


def test_each_row_has_its_own_cuts() -> None:
    logits = random_logits(5, 300)
    settings: list[dict[str, Any]] = [{"top_k": 3}, {}, {"top_p": 0.5}, {"min_p": 0.1}, {"top_k": 9, "top_p": 0.9}]
    samplings = [Sampling(max_tokens=1, temperature=0.5 + n, **s) for n, s in enumerate(settings)]
    together = kept(logits, *samplings)
    for n, sampling in enumerate(samplings):
        assert torch.equal(kept(logits[n : n + 1], sampling), together[n : n + 1])
    assert together[0].sum() == 3 and together[1].all()


def test_equal_logits_stay_or_go_together() -> None:
    logits = torch.tensor([[1.0, 5.0, 5.0, 5.0, 0.0]])
    assert kept(logits, Sampling(max_tokens=1, temperature=1.0, top_k=2)).tolist() == [[False, True, True, True, False]]


# --- bias and penalties ---


def after_penalties(logits: torch.Tensor, *rows: Row) -> torch.Tensor:
    """What bias and penalties make of the logits: the sampler changes those that it is given."""
    changed = logits.clone()
    sampler(rows).sample(changed)
    return changed


def test_repetition_is_that_of_transformers() -> None:
    logits = random_logits(3, 200, seed=8)
    ids = torch.randint(0, 200, (3, 30), generator=torch.Generator().manual_seed(2))
    rows = [row(prompt=i[:20].tolist(), generated=i[20:].tolist(), repetition_penalty=1.3) for i in ids]
    expected = RepetitionPenaltyLogitsProcessor(1.3)(ids, logits.clone())
    assert torch.equal(after_penalties(logits, *rows), expected)


def test_presence_counts_a_generated_token_once_and_frequency_each_time() -> None:
    logits = torch.zeros(1, 4)
    presence = row(prompt=[3], generated=[1, 2, 2], presence_penalty=0.5)
    frequency = row(prompt=[3], generated=[1, 2, 2], frequency_penalty=-0.25)
    assert after_penalties(logits, presence).tolist() == [[0, -0.5, -0.5, 0]]
    assert after_penalties(logits, frequency).tolist() == [[0, 0.25, 0.5, 0]]


def test_what_is_chosen_counts_in_the_next_step() -> None:
    made = sampler([row(frequency_penalty=1.0), row(), row(repetition_penalty=2.0)])
    logits = torch.tensor([[3.0, 2.5, 2.2, 0.0]] * 3)
    tokens = [made.sample(logits.clone()).tokens for _ in range(4)]
    assert tokens == [[0, 0, 0], [1, 0, 1], [2, 0, 2], [0, 0, 0]]


def test_a_bias_is_added_before_the_penalties() -> None:
    biased = row(prompt=[2], logit_bias=((2, 3.0), (0, -100.0)), repetition_penalty=2.0)
    logits = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    assert after_penalties(logits, row(), biased).tolist() == [[1, 1, 1], [-99, 1, 2]]


def test_no_end_before_min_tokens_and_never_a_placeholder() -> None:
    logits = torch.tensor([[1.0, 9.0, 5.0, 99.0, 10.0]])
    made = sampler([row(min_tokens=2, stop_token_ids=(4,))], eos_token_ids=(1,), placeholders=(3,))
    assert [made.sample(logits.clone()).tokens for _ in range(3)] == [[2], [2], [4]]
    assert sample(logits, row(min_tokens=2, generated=[2, 2]), eos_token_ids=(1,), placeholders=(3, 4)).tokens == [1]


# --- logprobs ---


def test_logprobs_are_those_of_the_model_and_only_of_the_rows_that_ask() -> None:
    logits = random_logits(3, 50)
    told = sample(
        logits,
        row(temperature=1.5, top_k=3, seed=4, logprobs=2, logit_bias=((7, 50.0),)),
        row(),
        row(logprobs=0),
    )
    expected = logits.log_softmax(dim=-1)
    first, nothing, last = told.logprobs
    assert nothing is None and first is not None and last is not None
    assert told.tokens[0] == 7 and first.chosen == expected[0, 7].item()
    values, ids = expected[0].topk(2)
    assert first.top == tuple(zip(ids.tolist(), values.tolist(), strict=True))
    assert last.top == () and last.chosen == expected[2].max().item()


# --- company ---


def some_row(generator: random.Random) -> Row:
    """Any mixture of what a request may ask for."""

    def maybe(*values: Any) -> Any:
        return generator.choice(values)

    return row(
        prompt=[generator.randrange(90) for _ in range(20)],
        generated=[generator.randrange(90) for _ in range(generator.randrange(15))],
        temperature=maybe(0.0, 0.7, 1.0, 1.4),
        top_p=maybe(1.0, 1.0, 0.9, 0.4),
        top_k=maybe(0, 0, 5, 40),
        min_p=maybe(0.0, 0.0, 0.05),
        presence_penalty=maybe(0.0, 0.0, 1.0, -0.5),
        frequency_penalty=maybe(0.0, 0.0, 0.5),
        repetition_penalty=maybe(1.0, 1.0, 1.2),
        logit_bias=maybe((), (), ((3, 5.0), (8, -100.0))),
        stop_token_ids=maybe((), (4, 5)),
        min_tokens=maybe(0, 12),
        logprobs=maybe(None, None, 3),
        seed=generator.randrange(10**6),
    )


def test_a_row_gives_the_same_in_any_batch() -> None:
    generator = random.Random(6)
    rows = [some_row(generator) for _ in range(60)]
    steps = [random_logits(60, 90, seed=step) for step in range(6)]
    together = sampler(rows, eos_token_ids=(1, 2), placeholders=(0,))
    batched = [together.sample(logits.clone()) for logits in steps]
    for n, one in enumerate(rows):
        alone = sampler([one], eos_token_ids=(1, 2), placeholders=(0,))
        for logits, batch in zip(steps, batched, strict=True):
            got = alone.sample(logits[n : n + 1].clone())
            assert (got.tokens, got.logprobs[0]) == ([batch.tokens[n]], batch.logprobs[n])


def test_a_sampler_made_anew_goes_on_as_the_old_one_would() -> None:
    generator = random.Random(7)
    rows = [some_row(generator) for _ in range(40)]
    kept_on = sampler(rows, eos_token_ids=(1, 2))
    for step in range(8):
        logits = random_logits(40, 90, seed=step)
        expected = kept_on.sample(logits.clone()).tokens
        assert sample(logits, *rows, eos_token_ids=(1, 2)).tokens == expected
        rows = [
            dataclasses.replace(r, generated_ids=[*r.generated_ids, t]) for r, t in zip(rows, expected, strict=True)
        ]


def test_half_precision_logits_are_taken() -> None:
    logits = random_logits(2, 40).bfloat16()
    assert sample(logits, row(), row(temperature=0.001)).tokens == logits.argmax(dim=-1).tolist()


class Recorded(TorchDispatchMode):
    """Which operations run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_a_step_reads_nothing_back_from_the_device_but_what_it_chose() -> None:
    generator = random.Random(8)
    made = sampler([some_row(generator) for _ in range(30)], eos_token_ids=(1, 2), placeholders=(0,))
    made.sample(random_logits(30, 90))
    logits = random_logits(30, 90, seed=1)
    with Recorded() as recorded:
        made.sample(logits)
    # One number is read, what is true is counted (twice), or a tensor is made from numbers of the host.
    assert not recorded.names & {"_local_scalar_dense", "nonzero", "masked_select", "lift_fresh"}


def test_a_greedy_step_is_one_argmax() -> None:
    made = sampler([row(), row()], placeholders=(0,))
    logits = random_logits(2, 90)
    with Recorded() as recorded:
        made.sample(logits)
    assert recorded.names == {"index_fill_", "argmax"}
