"""What form a request wants its answer in, by OpenAI's names and by vLLM's."""

from __future__ import annotations

import json
from typing import Any

import pydantic
import pytest
from pytest_django import Settings

from inference.api.digest import digest_of
from inference.api.schemas import ChatCompletionRequest
from inference.engine.types import Constraint
from inference.errors import InvalidRequest, UnsupportedParameter

SCHEMA = {"type": "object", "properties": {"kota": {"type": "string"}}, "required": ["kota"]}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "kota", "strict": True, "schema": SCHEMA}}


def asked(**fields: Any) -> ChatCompletionRequest:
    request = ChatCompletionRequest.model_validate({"messages": [{"role": "user", "content": "Halo"}]} | fields)
    request.check()
    return request


@pytest.mark.parametrize(
    ("fields", "constraint", "param"),
    [
        ({"response_format": {"type": "json_object"}}, Constraint("json_object"), "response_format"),
        ({"response_format": JSON_SCHEMA}, Constraint("json_schema", json.dumps(SCHEMA)), "response_format"),
        (
            {"structured_outputs": {"json": SCHEMA}},
            Constraint("json_schema", json.dumps(SCHEMA)),
            "structured_outputs.json",
        ),
        (
            {"structured_outputs": {"json": json.dumps(SCHEMA)}},
            Constraint("json_schema", json.dumps(SCHEMA)),
            "structured_outputs.json",
        ),
        ({"structured_outputs": {"regex": "[0-9]+"}}, Constraint("regex", "[0-9]+"), "structured_outputs.regex"),
        (
            {"structured_outputs": {"choice": ["ya", "bukan"]}},
            Constraint("choice", '["ya", "bukan"]'),
            "structured_outputs.choice",
        ),
        (
            {"structured_outputs": {"grammar": 'start: "a"'}},
            Constraint("grammar", 'start: "a"'),
            "structured_outputs.grammar",
        ),
        (
            {"structured_outputs": {"json_object": True}},
            Constraint("json_object"),
            "structured_outputs.json_object",
        ),
        ({"guided_json": SCHEMA}, Constraint("json_schema", json.dumps(SCHEMA)), "guided_json"),
        ({"guided_regex": "[0-9]+"}, Constraint("regex", "[0-9]+"), "guided_regex"),
        ({"guided_choice": ["ya"]}, Constraint("choice", '["ya"]'), "guided_choice"),
        ({"guided_grammar": 'start: "a"'}, Constraint("grammar", 'start: "a"'), "guided_grammar"),
    ],
)
def test_a_form_becomes_a_constraint(fields: dict[str, Any], constraint: Constraint, param: str) -> None:
    assert asked(**fields).asked_format() == (constraint, param)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"response_format": None},
        {"response_format": {"type": "text"}},
        {"structured_outputs": {}},
        {"structured_outputs": {"json": None, "disable_any_whitespace": False, "backend": None}},
        {"guided_json": None},
    ],
)
def test_a_request_may_ask_for_no_form(fields: dict[str, Any]) -> None:
    assert asked(**fields).asked_format() is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": JSON_SCHEMA, "guided_regex": "a"}, "response_format"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs.regex"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag"),
        ({"structured_outputs": {"whitespace_pattern": " *"}}, "structured_outputs.whitespace_pattern"),
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_json": "[" * 50_000}, "guided_json"),
        ({"guided_regex": "a\0"}, "guided_regex"),
        ({"guided_regex": "\ud800"}, "guided_regex"),
        ({"guided_regex": "é" * 40_000}, "guided_regex"),
        ({"guided_json": {"description": "x" * 70_000}}, "guided_json"),
        ({"guided_choice": ["x" * 70_000]}, "guided_choice"),
        ({"guided_whitespace_pattern": " *"}, "guided_whitespace_pattern"),
        ({"regex": "a"}, "regex"),
        ({"guided_regex": "a", "min_tokens": 3}, "min_tokens"),
        ({"guided_regex": "a", "ignore_eos": True}, "ignore_eos"),
    ],
)
def test_a_form_that_cannot_be_had_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        asked(**fields)
    assert refused.value.param == param
    assert len(refused.value.message) < 300


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "grammar"}},
        {"response_format": {}},
        {"response_format": "json"},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": []}}},
        {"guided_choice": []},
        {"guided_choice": [1]},
        {"guided_choice": ["a"] * 1001},
        {"guided_regex": 5},
        {"structured_outputs": {"grammar": {}}},
    ],
)
def test_a_form_of_another_shape_is_no_form(fields: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        asked(**fields)


def test_what_ends_an_answer_otherwise_may_ask_for_nothing_beside_a_form() -> None:
    asked(guided_regex="a", min_tokens=0, ignore_eos=False, stop="x")


def test_the_largest_grammar_is_a_setting(settings: Settings) -> None:
    settings.MAX_GRAMMAR_BYTES = 2000
    asked(guided_regex="a" * 2000)
    with pytest.raises(InvalidRequest, match="2000 bytes"):
        asked(guided_regex="a" * 2001)


def test_another_form_is_another_request_and_the_form_of_any_text_is_none() -> None:
    forms: list[dict[str, Any]] = [
        {},
        {"response_format": {"type": "json_object"}},
        {"response_format": JSON_SCHEMA},
        {"guided_regex": "a"},
        {"structured_outputs": {"regex": "a"}},
    ]
    assert len({digest_of(asked(**fields)) for fields in forms}) == len(forms)
    assert digest_of(asked(response_format={"type": "text"})) == digest_of(asked())


def test_an_upstream_gets_the_form_as_it_came() -> None:
    forms = {"response_format": JSON_SCHEMA}
    assert asked(**forms).wire_format() == forms
    vllm = {"structured_outputs": {"json": SCHEMA}}
    assert asked(**vllm).wire_format() == vllm
    assert asked().wire_format() is None


def test_a_name_of_other_servers_is_answered_with_ours() -> None:
    with pytest.raises(UnsupportedParameter, match="structured_outputs"):
        asked(regex="a")


def test_the_order_of_a_schemas_members_counts() -> None:
    one, other = ({"a": {"type": "null"}, "b": {"type": "null"}}, {"b": {"type": "null"}, "a": {"type": "null"}})
    digests = {digest_of(asked(guided_json={"type": "object", "properties": each})) for each in (one, other)}
    assert len(digests) == 2
