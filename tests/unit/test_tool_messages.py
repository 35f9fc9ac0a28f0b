"""Tool calls and their results in the messages of a request."""

from __future__ import annotations

from typing import Any

import pytest

from inference.errors import InvalidRequest
from inference.media.parts import parse_messages


def assistant(*calls: Any, **members: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **members}


def call(arguments: Any = '{"city": "Solo"}', **members: Any) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": arguments}, **members}


def arguments_of(arguments: str) -> Any:
    return parse_messages([assistant(call(arguments))]).messages[0]["tool_calls"][0]["function"]["arguments"]


def test_a_conversation_with_a_call_and_its_result_is_kept() -> None:
    result = {"role": "tool", "tool_call_id": "call_1", "content": "31 derajat"}
    said, told = parse_messages([assistant(call()), result]).messages
    assert said["content"] == [{"type": "text", "text": ""}]
    function = {"name": "weather", "arguments": {"city": "Solo"}}
    assert said["tool_calls"] == [{"id": "call_1", "type": "function", "function": function}]
    assert told == {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "31 derajat"}]}


def test_a_result_may_be_a_picture() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    parsed = parse_messages([{"role": "tool", "tool_call_id": "call_1", "content": [part]}])
    assert parsed.messages[0]["content"] == [{"type": "image"}]
    assert [source.kind for source in parsed.sources] == ["image"]


@pytest.mark.parametrize("empty", [None, []])
def test_no_calls_are_no_calls(empty: Any) -> None:
    parsed = parse_messages([{"role": "assistant", "content": "Ya.", "tool_calls": empty}])
    assert "tool_calls" not in parsed.messages[0]


def test_a_call_without_arguments_has_an_empty_object() -> None:
    assert arguments_of("") == {}


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param('{"city": "So', id="cut off"),
        pytest.param('"Solo"', id="no object"),
        pytest.param('{"a": NaN}', id="not a number"),
        pytest.param('{"a": 1e999}', id="infinite"),
        pytest.param('{"a": "\\u0000"}', id="a NUL character"),
        pytest.param('{"a": ["\\ud800"]}', id="half of a surrogate pair"),
        pytest.param('{"a": ' * 40 + "1" + "}" * 40, id="nested deeply"),
        pytest.param("[" * 100_000, id="nested without an end"),
    ],
)
def test_arguments_that_are_no_object_to_store_stay_as_the_model_wrote_them(arguments: str) -> None:
    assert arguments_of(arguments) == arguments


@pytest.mark.parametrize(
    ("message", "param"),
    [
        pytest.param({"role": "user", "content": "a", "tool_calls": [call()]}, ".tool_calls", id="a user's call"),
        pytest.param({"role": "assistant", "tool_calls": {"id": "a"}}, ".tool_calls", id="no list"),
        pytest.param(assistant("weather"), ".tool_calls[0]", id="a call that is a text"),
        pytest.param(assistant(call(), call(type="custom")), ".tool_calls[1]", id="a call of another type"),
        pytest.param(assistant({"id": "a"}), ".tool_calls[0]", id="no function"),
        pytest.param(assistant(call(id="")), ".tool_calls[0].id", id="no id"),
        pytest.param(assistant(call(id="x" * 300)), ".tool_calls[0].id", id="a very long id"),
        pytest.param(assistant(call({"city": "Solo"})), ".tool_calls[0].function.arguments", id="no text"),
        pytest.param(assistant(call("\0")), ".tool_calls[0].function.arguments", id="a NUL character"),
        pytest.param({"role": "tool", "content": "a"}, ".tool_call_id", id="a result of nothing"),
        pytest.param({"role": "tool", "tool_call_id": 1, "content": "a"}, ".tool_call_id", id="an id that is a number"),
        pytest.param({"role": "tool", "tool_call_id": "a", "content": None}, ".content", id="no result"),
    ],
)
def test_what_is_wrong_is_named(message: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_messages([message])
    assert refused.value.param == f"messages[0]{param}"
