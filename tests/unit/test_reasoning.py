"""What a chat request says of thoughts, and what becomes of it."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest
from pytest_django import Settings

from inference.api.digest import digest_of
from inference.api.schemas import ChatCompletionRequest
from inference.engine.types import Sampling
from inference.errors import InvalidRequest

HALO: dict[str, Any] = {"messages": [{"role": "user", "content": "Halo"}]}


@pytest.fixture(autouse=True)
def limits(settings: Settings) -> None:
    settings.MAX_TOKENS = 256
    settings.MAX_REASONING_TOKENS = 2000
    settings.MAX_TOKENS_LIMIT = 4000


def sampling(**fields: Any) -> Sampling:
    asked = ChatCompletionRequest.model_validate(HALO | fields)
    asked.check()
    return asked.sampling(seed=1)


def test_a_request_that_names_no_limit_has_one_for_the_answer_and_one_for_the_thought() -> None:
    made = sampling()
    assert (made.max_tokens, made.max_reasoning_tokens, made.thought_budget) == (256, 2000, 2000)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_limit_of_its_own_counts_thought_and_answer_as_openais_does(name: str) -> None:
    made = sampling(**{name: 500})
    assert (made.max_tokens, made.max_reasoning_tokens, made.thought_budget) == (500, None, None)


@pytest.mark.parametrize(("asked", "budget"), [(0, 0), (300, 300), (3000, 3000), (10**9, 4000)])
def test_a_budget_is_for_the_thought_beside_the_answer(asked: int, budget: int) -> None:
    made = sampling(thinking_token_budget=asked)
    assert (made.max_tokens, made.max_reasoning_tokens, made.thought_budget) == (256, budget, budget)
    made = sampling(thinking_token_budget=asked, max_tokens=500)
    assert (made.max_tokens, made.max_reasoning_tokens, made.thought_budget) == (500, None, budget)


@pytest.mark.parametrize(
    ("effort", "budget"),
    [("minimal", 250), ("low", 500), ("medium", 1000), ("high", 2000), ("xhigh", 2000), ("max", 2000)],
)
def test_an_effort_is_a_part_of_the_tokens_for_thoughts(effort: str, budget: int) -> None:
    made = sampling(reasoning_effort=effort)
    assert (made.reasoning_effort, made.thinking_token_budget, made.enable_thinking) == (effort, budget, None)
    assert sampling(reasoning_effort=effort, thinking_token_budget=7).thinking_token_budget == 7


def test_no_effort_turns_thinking_off() -> None:
    made = sampling(reasoning_effort="none")
    assert (made.enable_thinking, made.thinking_token_budget) == (False, None)


@pytest.mark.parametrize("value", [True, False, None])
def test_the_switch_of_the_template_is_passed_on(value: bool | None) -> None:
    assert sampling(chat_template_kwargs={"enable_thinking": value}).enable_thinking is value


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": True}}, "reasoning_effort"),
        ({"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}}, "reasoning_effort"),
        ({"chat_template_kwargs": {"fps": None}}, "chat_template_kwargs.fps"),
        ({"chat_template_kwargs": {"enable_thinking": True, "tools": []}}, "chat_template_kwargs.tools"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        sampling(**fields)
    assert refused.value.param == param


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_effort": "highest"},
        {"reasoning_effort": 3},
        {"thinking_token_budget": -1},
        {"thinking_token_budget": 1.5},
        {"chat_template_kwargs": {"enable_thinking": "yes"}},
        {"chat_template_kwargs": []},
    ],
)
def test_a_value_of_a_wrong_kind_names_its_field(fields: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError) as refused:
        sampling(**fields)
    assert refused.value.errors()[0]["loc"][0] in fields


def test_two_ways_of_thinking_are_two_requests() -> None:
    variants: list[dict[str, Any]] = [
        {},
        {"reasoning_effort": "low"},
        {"reasoning_effort": "high"},
        {"thinking_token_budget": 5},
        {"chat_template_kwargs": {"enable_thinking": True}},
        {"chat_template_kwargs": {"enable_thinking": False}},
    ]
    digests = {digest_of(ChatCompletionRequest.model_validate(HALO | each)) for each in variants}
    assert len(digests) == len(variants)
