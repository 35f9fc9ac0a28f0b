"""What a request may say beside the fields that are honoured: accepted, refused by name, or unknown."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from pytest_django import Settings

from inference.api.parameters import HARMLESS, REFUSED
from inference.api.schemas import ChatCompletionRequest
from inference.errors import InvalidRequest, UnsupportedParameter

HALO: dict[str, Any] = {"messages": [{"role": "user", "content": "Halo"}]}


def check(**fields: Any) -> None:
    ChatCompletionRequest.model_validate(HALO | fields).check()


def test_every_parameter_is_honoured_or_refused_or_harmless_and_never_two_of_these() -> None:
    honoured = set(ChatCompletionRequest.model_fields)
    for one, other in ((honoured, HARMLESS), (honoured, REFUSED), (HARMLESS, REFUSED)):
        assert set(one) & set(other) == set()


@pytest.mark.parametrize("name", HARMLESS)
@pytest.mark.parametrize("value", [None, "x", {"a": [1]}])
def test_a_harmless_parameter_passes_whatever_its_value(name: str, value: object) -> None:
    check(**{name: value})


def test_a_harmless_parameter_is_in_the_log_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="inference.api.parameters"):
        check(service_tier="flex")
    assert "service_tier" in caplog.text


@pytest.mark.parametrize("name", REFUSED)
def test_a_parameter_that_would_change_the_answer_is_refused_by_name(name: str) -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        check(**{name: {"type": "something"}})
    assert refused.value.param == name
    assert refused.value.code == "unsupported_parameter"
    assert name in refused.value.message


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, refused in REFUSED.items() for value in (None, *refused.unless)]
)
def test_a_value_that_asks_for_nothing_passes(name: str, value: object) -> None:
    check(**{name: value})


@pytest.mark.parametrize("name", ["reasoning", "think", "enable_thinking", "thinking_budget"])
def test_how_other_servers_ask_for_thoughts_is_refused_with_the_way_to_ask_here(name: str) -> None:
    with pytest.raises(
        UnsupportedParameter, match=r"Send (reasoning_effort|chat_template_kwargs|thinking_token_budget)"
    ):
        check(**{name: True})


def test_a_refusal_says_what_to_send_in_its_place() -> None:
    with pytest.raises(UnsupportedParameter, match="Send repetition_penalty"):
        check(repeat_penalty=1.1)


@pytest.mark.parametrize("name", ["temprature", "max_token", "x"])
def test_a_name_that_is_not_known_is_refused_as_openai_does(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check(**{name: None})
    assert (refused.value.param, refused.value.code) == (name, "unknown_parameter")


def test_of_a_long_name_a_refusal_quotes_the_beginning() -> None:
    with pytest.raises(InvalidRequest) as refused:
        check(**{"x" * 100_000: 1})
    assert len(refused.value.message) < 300


def test_an_operator_may_have_names_ignored(settings: Settings) -> None:
    settings.IGNORED_PARAMETERS = ["chat_id"]
    check(chat_id=5)
    with pytest.raises(InvalidRequest):
        check(other=5)
    settings.IGNORED_PARAMETERS = ["*"]
    check(chat_id=5, other=5)


def test_what_is_ignored_by_name_does_not_hide_what_would_change_the_answer(settings: Settings) -> None:
    settings.IGNORED_PARAMETERS = ["*", "grammar"]
    with pytest.raises(UnsupportedParameter):
        check(grammar="root ::= x")


@pytest.mark.parametrize(
    ("options", "param"),
    [({"continuous_usage_stats": True}, "continuous_usage_stats"), ({"usage": True}, "usage")],
)
def test_an_option_of_the_stream_is_looked_at_too(options: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check(stream=True, stream_options=options)
    assert refused.value.param == f"stream_options.{param}"


def test_a_harmless_option_of_the_stream_passes() -> None:
    check(stream=True, stream_options={"include_usage": True, "include_obfuscation": False})
