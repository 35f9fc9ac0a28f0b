"""Which functions a request lets its answer call, and what the answer is held to for their sake."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pydantic
import pytest

from inference.api.constraints import constraint_of
from inference.api.digest import digest_of
from inference.api.schemas import ChatCompletionRequest
from inference.api.tools import NO_PARAMETERS, ToolUse
from inference.engine.types import Constraint
from inference.errors import InvalidRequest
from inference.media.decoding import decoding_pool

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
#: a keyword that cannot be enforced
UNIQUE = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
NOTHING_SAID: dict[str, Any] = {"messages": [{"role": "user", "content": "Hujan?"}]}


@pytest.fixture(scope="module", autouse=True)
def pool() -> Iterator[None]:
    decoding_pool().start()
    yield
    decoding_pool().stop()


def tool(name: str = "weather", **members: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": CITY, **members}}


def by_name(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def asked(**fields: Any) -> ChatCompletionRequest:
    request = ChatCompletionRequest.model_validate(NOTHING_SAID | fields)
    request.check()
    return request


def use_of(**fields: Any) -> ToolUse:
    use = asked(**fields).tool_use
    assert use is not None
    return use


def held_to(**fields: Any) -> dict[str, Any]:
    constraint = asyncio.run(constraint_of(asked(**fields)))
    assert constraint is not None
    assert constraint.kind == "calls"
    return json.loads(constraint.source)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tools": []},
        {"tools": None, "tool_choice": "auto"},
        {"tool_choice": "none"},
        {"tools": [tool()], "tool_choice": "none"},
        {"parallel_tool_calls": False},
    ],
)
def test_an_answer_that_may_call_nothing_is_free(fields: dict[str, Any]) -> None:
    assert asked(**fields).tool_use is None
    assert asyncio.run(constraint_of(asked(**fields))) is None


def test_the_model_is_told_of_each_function() -> None:
    use = use_of(tools=[tool(description="Cuaca"), {"type": "function", "function": {"name": "now"}}])
    weather, now = (told["function"] for told in use.tools)
    assert weather == {"name": "weather", "description": "Cuaca", "parameters": CITY}
    assert now == {"name": "now", "description": "", "parameters": NO_PARAMETERS}


def test_an_answer_that_may_call_is_free_to() -> None:
    assert asyncio.run(constraint_of(asked(tools=[tool()], tool_choice="auto"))) is None
    assert not use_of(tools=[tool()]).one_call
    assert use_of(tools=[tool()], parallel_tool_calls=False).one_call


def test_required_calls_are_held_to_their_schemas() -> None:
    held = held_to(tools=[tool(), tool("now", parameters=UNIQUE)], tool_choice="required")
    # What cannot be enforced, and need not be, is an object all the same.
    assert held["schemas"] == {"weather": CITY, "now": {"type": "object"}}
    assert held["is_required"]
    assert not held["one_call"]


def test_a_function_that_has_to_be_called_is_the_only_one_offered_and_called_once() -> None:
    fields = {"tools": [tool("now"), tool()], "tool_choice": by_name("weather")}
    assert [told["function"]["name"] for told in use_of(**fields).tools] == ["weather"]
    held = held_to(**fields)
    assert list(held["schemas"]) == ["weather"]
    assert held["is_required"] and held["one_call"]


def test_strict_functions_are_held_to_their_schema_where_others_are_not() -> None:
    held = held_to(tools=[tool(strict=True), tool("now")])
    assert held["schemas"] == {"weather": CITY, "now": {"type": "object"}}
    assert not held["is_required"]


def test_a_strict_function_whose_schema_cannot_be_enforced_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        held_to(tools=[tool(), tool("now", parameters=UNIQUE, strict=True)])
    assert refused.value.param == "tools[1].function.parameters"
    assert "uniqueItems" in refused.value.message


def test_an_answer_of_a_form_may_call_in_its_place() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": CITY}}
    assert held_to(tools=[tool()], response_format=form)["answer"] == CITY
    assert held_to(tools=[tool()], response_format={"type": "json_object"})["answer"] == {"type": "object"}
    required = asked(tools=[tool()], tool_choice="none", response_format=form)
    assert asyncio.run(constraint_of(required)) == Constraint("json_schema", json.dumps(CITY))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [tool()], "tool_choice": by_name("now")}, "tool_choice"),
        ({"tools": [tool(), tool()]}, "tools"),
        ({"tools": [tool(parameters={"type": "string"})]}, "tools[0].function.parameters"),
        ({"tools": [tool(description="\0")]}, "tools[0].function"),
        ({"tools": [tool(parameters={"type": "object", "\ud800": 1})]}, "tools[0].function"),
        ({"tools": [tool()], "tool_choice": "required", "min_tokens": 3}, "min_tokens"),
        ({"tools": [tool(strict=True)], "ignore_eos": True}, "ignore_eos"),
    ],
)
def test_what_contradicts_itself_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        asked(**fields)
    assert refused.value.param == param


def test_a_choice_among_texts_cannot_be_combined_with_tools() -> None:
    with pytest.raises(InvalidRequest, match="only JSON can"):
        held_to(tools=[tool()], guided_choice=["a", "b"])


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "web_search"}]},
        {"tools": [{"type": "function"}]},
        {"tools": [tool("")]},
        {"tools": [tool("with blanks")]},
        {"tools": [tool("n" * 65)]},
        {"tools": [tool(parameters=[1])]},
        {"tools": [tool(f"f{i}") for i in range(129)]},
        {"tools": [tool()], "tool_choice": "sometimes"},
        {"tools": [tool()], "tool_choice": {"type": "allowed_tools"}},
        {"tools": [tool()], "parallel_tool_calls": "no"},
    ],
)
def test_what_is_no_tool_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        asked(**fields)


def test_tools_shape_the_answer() -> None:
    assert len({digest_of(asked(**fields)) for fields in ({}, {"tools": [tool()]}, {"tools": [tool("now")]})}) == 3


def test_schemas_that_are_too_large_together_are_refused_where_they_must_be_enforced() -> None:
    wide = {"type": "object", "properties": {f"member{number}": {"type": "string"} for number in range(60)}}
    many = [tool(f"f{number}", parameters=wide, strict=True) for number in range(60)]
    with pytest.raises(InvalidRequest) as refused:
        held_to(tools=many)
    assert refused.value.param == "tools"


def test_of_many_functions_that_have_to_be_called_the_schemas_are_enforced_as_far_as_they_fit() -> None:
    wide = {"type": "object", "properties": {f"member{number}": {"type": "string"} for number in range(60)}}
    many = [tool(f"f{number}", parameters=wide) for number in range(60)]
    schemas = held_to(tools=many, tool_choice="required")["schemas"]
    assert len(schemas) == 60
    assert schemas["f0"] == wide
    assert schemas["f59"] == {"type": "object"}


def test_what_an_upstream_is_sent_has_tools_or_nothing_of_them() -> None:
    assert asked(tools=[], parallel_tool_calls=False).wire_tools() is None
    sent = asked(tools=[tool()], tool_choice="required").wire_tools()
    assert sent is not None
    assert sent["tool_choice"] == "required"
