"""Tokens that a request rules out: all but the allowed ones, and bad words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from inference.engine.banned_tokens import BannedTokens
from inference.engine.errors import InvalidSampling

SEEDED = {"temperature": 1.0, "seed": 3}


def row(*, allowed: tuple[int, ...] = (), bad: tuple[tuple[int, ...], ...] = (), generated: Any = ()) -> Any:
    sampling = SimpleNamespace(allowed_token_ids=allowed)
    return SimpleNamespace(sampling=sampling, bad_words=bad, generated_ids=list(generated))


def possible(*rows: Any) -> list[list[int]]:
    """The tokens that are left for each row, of six."""
    logits = torch.zeros(len(rows), 6)
    BannedTokens(rows, device=torch.device("cpu")).apply(logits)
    assert set(logits.flatten().tolist()) <= {0.0, -float("inf")}
    return [row.isfinite().nonzero().flatten().tolist() for row in logits]


def test_only_the_allowed_tokens_of_a_row_are_left() -> None:
    assert possible(row(allowed=(4, 1)), row(), row(allowed=(0,))) == [[1, 4], [0, 1, 2, 3, 4, 5], [0]]


def test_a_bad_word_of_one_token_never_comes() -> None:
    assert possible(row(bad=((2,), (5,))), row()) == [[0, 1, 3, 4], [0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize(
    ("generated", "left"),
    [
        ([], [0, 1, 2, 3, 4, 5]),
        ([1], [0, 1, 2, 3, 4, 5]),
        ([1, 2], [0, 1, 2, 4, 5]),
        ([0, 1, 2], [0, 1, 2, 4, 5]),
        ([1, 2, 0], [0, 1, 2, 3, 4, 5]),
    ],
)
def test_a_bad_word_of_several_tokens_does_not_come_to_its_end(generated: list[int], left: list[int]) -> None:
    assert possible(row(bad=((1, 2, 3),), generated=generated)) == [left]


def test_an_answer_is_made_of_the_allowed_tokens(start_engine: Any, make_request: Any, collect: Any) -> None:
    allowed = (70, 80, 90)
    wanted = make_request(max_tokens=30, allowed_token_ids=allowed, **SEEDED)
    assert set(collect(start_engine().submit(wanted)).ids) == set(allowed)


@pytest.mark.parametrize("sampling", [{}, SEEDED])
def test_a_bad_word_does_not_come_and_a_takeover_goes_on_alike(
    start_engine: Any, make_request: Any, collect: Any, sampling: Any
) -> None:
    engine = start_engine()
    free = collect(engine.submit(make_request(max_tokens=40, ignore_eos=True, **sampling)))
    # One that comes as the tokenizer spells it, so that to rule it out changes something.
    word = next(d.text for d in free.deltas if d.text and engine._prompts.spellings([d.text])[0] == d.token_ids)
    wanted = {"max_tokens": 40, "ignore_eos": True, "bad_words": (word, "kota besar"), **sampling}
    whole = collect(engine.submit(make_request(**wanted)))
    assert whole.ids != free.ids
    banned = engine._prompts.spellings(wanted["bad_words"])
    assert not any(
        tuple(whole.ids[at : at + len(spelling)]) == spelling for spelling in banned for at in range(len(whole.ids))
    )
    for cut in (0, 1, 7, 20, 39):
        resumed = collect(engine.submit(make_request(resume_ids=whole.ids[:cut], **wanted)))
        assert resumed.deltas == whole.deltas[cut:]


def test_a_word_is_spelt_alone_and_behind_a_space(start_engine: Any) -> None:
    prompts = start_engine()._prompts
    assert prompts.spellings(["kota"]) == prompts.spellings(["kota", " kota"])
    assert len(prompts.spellings(["kota"])) == 2
    assert all(prompts.spellings(["<|im_end|>"]))


@pytest.mark.parametrize(
    "wanted",
    [{"allowed_token_ids": (10**9,)}, {"allowed_token_ids": (-1,)}, {"min_tokens": 3, "allowed_token_ids": ()}],
)
def test_a_token_that_is_not_there_or_may_not_come_is_refused(
    loaded: Any, start_engine: Any, make_request: Any, collect: Any, wanted: Any
) -> None:
    wanted = {**wanted, "allowed_token_ids": wanted["allowed_token_ids"] or tuple(loaded.eos_token_ids)}
    with pytest.raises(InvalidSampling) as refused:
        collect(start_engine().submit(make_request(**wanted)))
    assert refused.value.field == "allowed_token_ids"
