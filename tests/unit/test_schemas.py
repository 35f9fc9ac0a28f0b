"""The chat request: what is refused by name, which limits hold, and which requests are the same one."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pydantic
import pytest
from django.conf import settings as django_settings
from pytest_django import Settings

from inference.api.digest import digest_of
from inference.api.schemas import ChatCompletionRequest
from inference.engine.types import Sampling
from inference.errors import InvalidRequest
from inference.media.parts import parse_messages

HALO: dict[str, Any] = {"messages": [{"role": "user", "content": "Halo"}]}
BEGUN = [*HALO["messages"], {"role": "assistant", "content": "Halo, apa"}]


def asked(**fields: Any) -> ChatCompletionRequest:
    return ChatCompletionRequest.model_validate(HALO | fields)


def checked(**fields: Any) -> ChatCompletionRequest:
    payload = asked(**fields)
    payload.check()
    return payload


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("max_tokens", True),
        ("max_completion_tokens", "5"),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", float("nan")),
        ("temperature", 10**400),
        ("top_p", -0.1),
        ("top_p", 1.1),
        ("top_p", float("inf")),
        ("seed", 2**63),
        ("seed", -(2**63) - 1),
        ("seed", 1.0),
        ("min_tokens", -1),
        ("ignore_eos", 1),
        ("stream", "yes"),
        ("session_id", ""),
        ("session_id", "x" * 65),
        ("session_id", "a b"),
        ("session_id", "a\n"),
        ("session_id", "a:b"),
        ("session_id", "a\0"),
        ("session_id", "."),
        ("session_id", ".."),
        ("session_id", ".a"),
        ("session_id", "-a"),
        ("model", 3),
        ("top_k", -2),
        ("top_k", 1.0),
        ("top_k", 10**300),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("presence_penalty", 2.1),
        ("presence_penalty", -2.1),
        ("frequency_penalty", 2.1),
        ("frequency_penalty", float("nan")),
        ("repetition_penalty", 0),
        ("repetition_penalty", -1),
        ("repetition_penalty", float("inf")),
        ("logit_bias", {"5": 101}),
        ("logit_bias", {"5": -101}),
        ("logit_bias", {5: 1}),
        ("logit_bias", {str(n): 1 for n in range(1025)}),
        ("logit_bias", [5]),
        ("stop_token_ids", ["5"]),
        ("stop_token_ids", [-1]),
        ("stop_token_ids", [2**40]),
        ("stop_token_ids", list(range(65))),
        ("allowed_token_ids", []),
        ("allowed_token_ids", [-1]),
        ("allowed_token_ids", list(range(1025))),
        ("bad_words", "a"),
        ("bad_words", ["a"] * 65),
        ("logprobs", 5),
        ("logprobs", 1),
        ("logprobs", "true"),
        ("top_logprobs", 21),
        ("top_logprobs", -1),
        ("top_logprobs", True),
        ("n", 0),
        ("n", 1.0),
        ("stop", [1]),
        ("messages", "Halo"),
    ],
)
def test_a_value_of_a_wrong_kind_or_range_names_its_field(name: str, value: object) -> None:
    with pytest.raises(pydantic.ValidationError) as refused:
        asked(**{name: value})
    assert refused.value.errors()[0]["loc"][0] == name


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": False, "stream_options": {}}, "stream_options"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens"),
        ({"min_tokens": 6, "max_tokens": 5}, "min_tokens"),
        ({"min_tokens": 10**300}, "min_tokens"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", ""]}, "stop"),
        ({"stop": [str(n) for n in range(65)]}, "stop"),
        ({"stop": "x" * 201}, "stop"),
        ({"stop": "a\0b"}, "stop"),
        ({"stop": ["a", "\0"]}, "stop"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"logprobs": False, "top_logprobs": 1}, "top_logprobs"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"07": 1}}, "logit_bias"),
        ({"logit_bias": {"²": 1}}, "logit_bias"),
        ({"logit_bias": {"": 1}}, "logit_bias"),
        ({"logit_bias": {"9" * 5000: 1}}, "logit_bias"),
        ({"bad_words": [""]}, "bad_words"),
        ({"bad_words": ["x" * 201]}, "bad_words"),
        ({"bad_words": ["\0"]}, "bad_words"),
        ({"bad_words": ["a"], "allowed_token_ids": [1]}, "bad_words"),
        ({"continue_final_message": True}, "continue_final_message"),
        ({"echo": True}, "echo"),
        (
            {"messages": BEGUN, "continue_final_message": True, "add_generation_prompt": True},
            "add_generation_prompt",
        ),
        (
            {"messages": BEGUN, "continue_final_message": True, "response_format": {"type": "json_object"}},
            "continue_final_message",
        ),
        ({"n": 9}, "n"),
        ({"n": 10**300}, "n"),
    ],
)
def test_fields_that_cannot_be_honoured_together_are_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        checked(**fields)
    assert refused.value.param == param
    assert len(refused.value.message) < 300


@pytest.mark.parametrize("stop", ["\ud800", ["a", "x\udc00"]])
def test_half_a_surrogate_pair_in_stop_is_refused(stop: object) -> None:
    # Whichever of the two sees it first.
    with pytest.raises((InvalidRequest, pydantic.ValidationError)):
        checked(stop=stop)


@pytest.mark.parametrize(("asked_for", "given"), [(299, 299), (300, 300), (301, 300), (128_000, 300), (10**300, 300)])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_more_tokens_than_the_limit_count_as_the_limit(
    settings: Settings, name: str, asked_for: int, given: int
) -> None:
    settings.MAX_TOKENS_LIMIT = 300
    assert checked(**{name: asked_for}).sampling(seed=1).max_tokens == given


def test_what_a_request_does_not_say_the_server_does() -> None:
    sampling = asked().sampling(seed=77)
    assert sampling.max_tokens == django_settings.MAX_TOKENS
    assert sampling.temperature == django_settings.TEMPERATURE
    assert (sampling.top_p, sampling.seed, sampling.stop) == (1.0, 77, ())
    assert (sampling.min_tokens, sampling.ignore_eos) == (0, False)
    # What nobody asked for is off.
    off = Sampling(max_tokens=sampling.max_tokens, temperature=sampling.temperature, seed=77)
    assert sampling == dataclasses.replace(off, max_reasoning_tokens=django_settings.MAX_REASONING_TOKENS)


def test_what_a_request_says_is_done() -> None:
    sampling = asked(
        max_completion_tokens=9, temperature=0, top_p=0.5, seed=0, stop="x", min_tokens=2, ignore_eos=True
    ).sampling(seed=77)
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.seed) == (9, 0, 0.5, 0)
    assert (sampling.stop, sampling.min_tokens, sampling.ignore_eos) == (("x",), 2, True)


@pytest.mark.parametrize(
    ("fields", "ending"),
    [
        ({}, "turn"),
        ({"add_generation_prompt": True}, "turn"),
        ({"add_generation_prompt": False}, "message"),
        ({"continue_final_message": True}, "inside"),
        ({"continue_final_message": True, "add_generation_prompt": False}, "inside"),
    ],
)
def test_a_request_says_how_its_prompt_ends(fields: dict[str, Any], ending: str) -> None:
    assert checked(messages=BEGUN, **fields).ending() == ending


def test_what_a_request_says_of_its_tokens_is_done() -> None:
    sampling = checked(
        top_k=5,
        min_p=0.1,
        presence_penalty=-2,
        frequency_penalty=2,
        repetition_penalty=1.2,
        logit_bias={"0": -100, "151643": 2.5},
        stop_token_ids=[7, 9],
        bad_words=["a", "b", "a"],
        logprobs=True,
        top_logprobs=20,
    ).sampling(seed=1)
    assert (sampling.top_k, sampling.min_p, sampling.repetition_penalty) == (5, 0.1, 1.2)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (-2, 2)
    assert (sampling.logit_bias, sampling.stop_token_ids) == (((0, -100), (151643, 2.5)), (7, 9))
    assert sampling.logprobs == 20
    assert sampling.bad_words == ("a", "b")
    assert checked(allowed_token_ids=[3, 1, 3]).sampling(seed=1).allowed_token_ids == (3, 1)


@pytest.mark.parametrize(
    ("fields", "top_k", "logprobs"),
    [
        ({"top_k": -1}, 0, None),
        ({"top_k": 0}, 0, None),
        ({"logprobs": True}, 0, 0),
        ({"logprobs": False, "top_logprobs": 0}, 0, None),
    ],
)
def test_what_is_off_and_what_is_nought(fields: dict[str, Any], top_k: int, logprobs: int | None) -> None:
    sampling = checked(**fields).sampling(seed=1)
    assert (sampling.top_k, sampling.logprobs) == (top_k, logprobs)


def test_the_count_that_completions_have_for_logprobs_is_refused_with_the_way_chat_says_it() -> None:
    with pytest.raises(pydantic.ValidationError, match="top_logprobs"):
        asked(logprobs=5)


def test_the_limit_on_choices_is_a_setting(settings: Settings) -> None:
    settings.MAX_CHOICES = 3
    assert checked(n=3).n == 3
    with pytest.raises(InvalidRequest, match="at most 3"):
        checked(n=4)


@pytest.mark.parametrize(
    "fields",
    [
        {"stream": True},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"session_id": "mine"},
        {"user": "u", "metadata": {"k": "v"}, "store": False, "service_tier": "flex"},
        {"temperature": None, "response_format": {"type": "text"}, "some_extension": 1},
        {"messages": [{"role": "user", "content": "Halo", "timestamp": 5}]},
    ],
)
def test_how_an_answer_is_sent_does_not_make_another_request(fields: dict[str, Any]) -> None:
    assert digest_of(asked(**fields)) == digest_of(asked())


def test_the_order_of_members_does_not_make_another_request() -> None:
    there = digest_of(asked(seed=1, max_tokens=2, logit_bias={"1": 1, "2": 2}))
    back = digest_of(asked(logit_bias={"2": 2, "1": 1}, max_tokens=2, seed=1))
    assert there == back


def test_anything_that_may_change_the_answer_makes_another_request() -> None:
    variants: list[dict[str, Any]] = [
        {},
        {"messages": [{"role": "user", "content": "Halo!"}]},
        {"messages": [{"role": "system", "content": "Halo"}]},
        {"messages": [{"role": "user", "content": "Halo", "name": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Halo"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Halo", "detail": "low"}]}]},
        {"max_tokens": 5},
        {"max_tokens": 6},
        {"max_completion_tokens": 6},
        {"temperature": 0.1},
        {"top_p": 0.1},
        {"seed": 1},
        {"seed": 2},
        {"stop": "a"},
        {"stop": ["a", "b"]},
        {"min_tokens": 1},
        {"ignore_eos": True},
        {"top_k": 5},
        {"min_p": 0.1},
        {"presence_penalty": 1},
        {"frequency_penalty": 1},
        {"repetition_penalty": 1.5},
        {"logit_bias": {"5": 1}},
        {"logit_bias": {"6": 1}},
        {"stop_token_ids": [5]},
        {"allowed_token_ids": [5]},
        {"bad_words": ["a"]},
        {"logprobs": True},
        {"logprobs": True, "top_logprobs": 2},
        {"n": 2},
        {"add_generation_prompt": False},
        {"continue_final_message": True},
        {"echo": True},
        {"model": "tiny"},
    ]
    digests = {digest_of(asked(**variant)) for variant in variants}
    assert len(digests) == len(variants)


@pytest.mark.parametrize("session_id", ["a", "7", "_", "a..", "sess_x.y-z", "x" * 64])
def test_an_id_that_an_address_can_hold_is_taken(session_id: str) -> None:
    assert asked(session_id=session_id).session_id == session_id


@pytest.mark.parametrize(
    "member",
    [
        *("name", "refusal", "tool_calls", "tool_call_id", "function_call", "audio", "reasoning_content", "reasoning"),
        *("annotations", "id", "prefix"),
    ],
)
def test_two_conversations_that_the_model_sees_as_two_are_two_requests(member: str) -> None:
    """Whatever a message may say one day: what reaches the model must reach the digest."""
    seen, digests = set(), set()
    for value in ("a", "b"):
        for said in (value, [{"id": value, "type": "function", "function": {"name": value, "arguments": "{}"}}]):
            messages = [*HALO["messages"], {"role": "assistant", "content": None, member: said}]
            try:
                conversation = parse_messages(messages)
                digests.add(digest_of(asked(messages=messages)))
            except (InvalidRequest, pydantic.ValidationError):
                continue
            seen.add(json.dumps(conversation.messages, sort_keys=True))
    assert len(digests) >= len(seen)


def test_a_mark_for_caches_does_not_make_another_request() -> None:
    part = {"type": "text", "text": "Halo"}
    marked = part | {"cache_control": {"type": "ephemeral"}}
    digests = {digest_of(asked(messages=[{"role": "user", "content": [each]}])) for each in (part, marked)}
    assert len(digests) == 1


def test_any_json_has_a_digest() -> None:
    values: list[Any] = ["\ud800", "\0", 10**400, float("inf"), [[[[]]]], {"\0": None}]
    for value in values:
        assert len(digest_of(asked(messages=[{"role": "user", "content": [{"type": "text", "text": value}]}]))) == 64
