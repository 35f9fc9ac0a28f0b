"""Thoughts in the engine: budgets, the end that is forced, and what a model's chat template can do."""

from __future__ import annotations

import copy
import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from inference.engine.errors import InvalidSampling
from inference.engine.thinking import Thinking
from inference.engine.types import Sampling

SEEDED = {"temperature": 0.9, "seed": 11}
#: as templates of Qwen3 have it, which think unless they are told not to
SWITCH = "{% if enable_thinking is defined and enable_thinking is false %}<think>\\n\\n</think>\\n\\n{% endif %}"

CANNOT = "{{ messages }}"
ALWAYS = "{{ messages }}<think>"
CAN_BE_TOLD = "{{ messages }}{% if enable_thinking is false %}<think></think>{% endif %}"
TAKES_EFFORT = CAN_BE_TOLD + "{{ reasoning_effort }}"


def with_opening(loaded: Any, opening: str) -> Any:
    """The same model with a template that begins the answer with ``opening``."""
    processor = copy.copy(loaded.processor)
    before = "assistant\\n'"
    assert before in processor.chat_template
    processor.chat_template = processor.chat_template.replace(before, f"assistant\\n{opening}'")
    return dataclasses.replace(loaded, processor=processor)


@pytest.fixture
def thinker(loaded: Any) -> Any:
    """A model that always thinks. With its random weights it never ends a thought by itself."""
    return with_opening(loaded, "<think>\\n")


@pytest.fixture
def told_thinker(loaded: Any) -> Any:
    """A model that thinks unless it is told not to."""
    processor = copy.copy(loaded.processor)
    end = "assistant\\n' -}}"
    assert end in processor.chat_template
    processor.chat_template = processor.chat_template.replace(end, end + SWITCH)
    return dataclasses.replace(loaded, processor=processor)


@pytest.mark.parametrize("budget", [0, 1, 7])
def test_a_thought_that_has_used_up_its_budget_ends_and_the_answer_begins(
    loaded: Any, thinker: Any, start_engine: Any, make_request: Any, collect: Any, budget: int
) -> None:
    whole = collect(start_engine(thinker).submit(make_request(max_tokens=30, thinking_token_budget=budget)))
    assert whole.ids[budget] == loaded.vocabulary.think_end
    assert loaded.vocabulary.think_end not in whole.ids[:budget]
    assert whole.finish.reasoning_tokens == budget + 1
    assert (whole.finish.reason, whole.finish.completion_tokens) == ("length", 30)
    assert whole.text
    assert bool(whole.reasoning) == bool(budget)


def test_up_to_its_end_a_bounded_thought_is_the_unbounded_one(
    thinker: Any, start_engine: Any, make_request: Any, collect: Any
) -> None:
    engine = start_engine(thinker)
    free = collect(engine.submit(make_request(max_tokens=30, **SEEDED)))
    bounded = collect(engine.submit(make_request(max_tokens=30, thinking_token_budget=12, **SEEDED)))
    assert bounded.ids[:12] == free.ids[:12]


@pytest.mark.parametrize("sampling", [{}, SEEDED, {"repetition_penalty": 1.3, **SEEDED}])
def test_a_takeover_forces_the_same_end(
    thinker: Any, start_engine: Any, make_request: Any, collect: Any, sampling: Any
) -> None:
    engine = start_engine(thinker)
    wanted = {"max_tokens": 20, "thinking_token_budget": 9, **sampling}
    whole = collect(engine.submit(make_request(**wanted)))
    handles = [engine.submit(make_request(resume_ids=whole.ids[:cut], **wanted)) for cut in range(len(whole.ids) + 1)]
    for cut, handle in enumerate(handles):
        resumed = collect(handle)
        assert resumed.deltas == whole.deltas[cut:]
        assert dataclasses.replace(resumed.finish, cached_tokens=0) == dataclasses.replace(
            whole.finish, cached_tokens=0
        )


def test_rows_with_and_without_a_budget_do_not_disturb_each_other(
    thinker: Any, start_engine: Any, make_request: Any, collect: Any
) -> None:
    budgets = [None, 0, 3, None, 11]
    requests = [make_request(max_tokens=25, thinking_token_budget=budget, **SEEDED) for budget in budgets]
    alone = [collect(start_engine(thinker, max_batch_size=1).submit(request)).ids for request in requests]
    engine = start_engine(thinker)
    together = [collect(handle).ids for handle in [engine.submit(request) for request in requests]]
    assert together == alone


def test_a_forced_token_has_the_likelihood_that_the_model_gave_it(
    loaded: Any, thinker: Any, start_engine: Any, make_request: Any, collect: Any
) -> None:
    whole = collect(start_engine(thinker).submit(make_request(max_tokens=5, thinking_token_budget=2, logprobs=1)))
    forced = whole.deltas[2].logprobs[0]
    assert forced.chosen.token_id == loaded.vocabulary.think_end
    assert forced.chosen.logprob < forced.top[0].logprob


# --- limits ---


def test_without_a_limit_of_its_own_a_request_has_one_for_the_thought_and_one_for_the_answer(
    thinker: Any, start_engine: Any, make_request: Any, collect: Any
) -> None:
    whole = collect(start_engine(thinker).submit(make_request(max_tokens=10, max_reasoning_tokens=6, ignore_eos=True)))
    assert (whole.finish.reasoning_tokens, whole.finish.completion_tokens) == (7, 17)
    assert whole.finish.reason == "length"


def test_the_smaller_of_two_budgets_counts(thinker: Any, start_engine: Any, make_request: Any, collect: Any) -> None:
    wanted = {"max_tokens": 10, "max_reasoning_tokens": 20, "thinking_token_budget": 4, "ignore_eos": True}
    whole = collect(start_engine(thinker).submit(make_request(**wanted)))
    assert (whole.finish.reasoning_tokens, whole.finish.completion_tokens) == (5, 15)


def test_tokens_for_thoughts_are_nothing_to_a_model_that_does_not_think(
    start_engine: Any, make_request: Any, collect: Any
) -> None:
    whole = collect(start_engine().submit(make_request(max_tokens=10, max_reasoning_tokens=60, ignore_eos=True)))
    assert whole.finish.completion_tokens == 10


# --- what a template can do ---


def test_a_template_with_a_switch_is_told(
    told_thinker: Any, start_engine: Any, make_request: Any, collect: Any
) -> None:
    engine = start_engine(told_thinker)
    on, off = (collect(engine.submit(make_request(max_tokens=5, enable_thinking=value))) for value in (True, False))
    left = collect(engine.submit(make_request(max_tokens=5)))
    assert on.finish.prompt_tokens == left.finish.prompt_tokens < off.finish.prompt_tokens


@pytest.mark.parametrize("sampling", [{"enable_thinking": True}, {"thinking_token_budget": 5}])
def test_a_thought_that_a_model_cannot_have_ends_the_request_with_its_field(
    start_engine: Any, make_request: Any, collect: Any, sampling: Any
) -> None:
    with pytest.raises(InvalidSampling, match="does not think") as refused:
        collect(start_engine().submit(make_request(**sampling)))
    assert refused.value.field in ("chat_template_kwargs.enable_thinking", "thinking_token_budget")


VOCABULARY: Any = SimpleNamespace(think_end=7)


@pytest.mark.parametrize(
    ("template", "asked", "variables"),
    [
        (CANNOT, {}, {}),
        (CANNOT, {"enable_thinking": False}, {}),
        (CANNOT, {"enable_thinking": False, "reasoning_effort": "none"}, {}),
        (CANNOT, {"thinking_token_budget": 0}, {}),
        (CANNOT, {"max_reasoning_tokens": 100}, {}),
        (ALWAYS, {}, {}),
        (ALWAYS, {"enable_thinking": True}, {}),
        (ALWAYS, {"reasoning_effort": "low", "thinking_token_budget": 9}, {}),
        (CAN_BE_TOLD, {}, {}),
        (CAN_BE_TOLD, {"enable_thinking": True}, {"enable_thinking": True}),
        (CAN_BE_TOLD, {"enable_thinking": False, "reasoning_effort": "none"}, {"enable_thinking": False}),
        (TAKES_EFFORT, {"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
    ],
)
def test_a_template_gets_the_variables_that_it_knows(template: str, asked: Any, variables: Any) -> None:
    assert Thinking(VOCABULARY, template).variables(Sampling(max_tokens=1, **asked)) == variables


@pytest.mark.parametrize(
    ("template", "asked", "field"),
    [
        (CANNOT, {"enable_thinking": True}, "chat_template_kwargs.enable_thinking"),
        (CANNOT, {"reasoning_effort": "low"}, "reasoning_effort"),
        (CANNOT, {"thinking_token_budget": 1}, "thinking_token_budget"),
        (ALWAYS, {"enable_thinking": False}, "chat_template_kwargs.enable_thinking"),
        (ALWAYS, {"enable_thinking": False, "reasoning_effort": "none"}, "reasoning_effort"),
    ],
)
def test_what_a_template_cannot_do_is_refused_by_its_field(template: str, asked: Any, field: str) -> None:
    with pytest.raises(InvalidSampling) as refused:
        Thinking(VOCABULARY, template).variables(Sampling(max_tokens=1, **asked))
    assert refused.value.field == field
    assert field in str(refused.value)


def test_a_model_without_the_tags_cannot_think() -> None:
    vocabulary: Any = SimpleNamespace(think_end=None)
    assert not Thinking(vocabulary, ALWAYS).is_possible
