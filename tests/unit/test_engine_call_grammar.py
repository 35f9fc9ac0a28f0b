"""Calls that an answer has to make, or may make, have arguments of their schema."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inference.engine.call_grammar import ANY_OBJECT, calls_source
from inference.engine.errors import InvalidConstraint
from inference.engine.grammar import Grammars, Matcher
from inference.engine.types import Constraint, GenerationRequest, Sampling

CITY = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/City"}},
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {"City": {"enum": ["Solo", "Bogor"]}},
}
COUNT = {
    "type": "object",
    "properties": {"count": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["count"],
    "additionalProperties": False,
}
SCHEMAS = {"weather": CITY, "repeat": COUNT}
WEATHER = '<tool_call>\n{"name": "weather", "arguments": {"city": "Solo"}}\n</tool_call>'
REPEAT = '<tool_call>\n{"name": "repeat", "arguments": {"count": 3}}\n</tool_call>'
TOOLS = [{"type": "function", "function": {"name": name, "parameters": SCHEMAS[name]}} for name in SCHEMAS]


@pytest.fixture(scope="module")
def grammars(loaded: Any) -> Grammars:
    return Grammars(loaded.tokenizer, loaded.vocabulary, loaded.tokenizer("<|im_end|>").input_ids)


def written(loaded: Any, grammars: Grammars, text: str, **options: Any) -> Matcher:
    """The matcher behind ``text``."""
    asked = {"is_required": True, "one_call": False, **options}
    matcher = grammars.matcher(Constraint("calls", calls_source(SCHEMAS, **asked)))
    for token in loaded.tokenizer(text).input_ids:
        matcher.take(token)
    return matcher


@pytest.mark.parametrize("text", [WEATHER, REPEAT, f"{WEATHER}\n{REPEAT}"])
def test_required_calls_are_calls(loaded: Any, grammars: Grammars, text: str) -> None:
    written(loaded, grammars, text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("Halo", id="a text"),
        pytest.param(WEATHER.replace("Solo", "Rome"), id="an argument that the schema forbids"),
        pytest.param(WEATHER.replace('"weather"', '"repeat"'), id="the arguments of another function"),
        pytest.param(WEATHER.replace('"weather"', '"rain"'), id="a function that is not offered"),
        pytest.param(f"{WEATHER} Itu saja.", id="a text behind it"),
    ],
)
def test_required_calls_are_nothing_else(loaded: Any, grammars: Grammars, text: str) -> None:
    with pytest.raises(InvalidConstraint):
        written(loaded, grammars, text)


def test_an_answer_of_one_call_is_complete_behind_it(loaded: Any, grammars: Grammars) -> None:
    assert written(loaded, grammars, WEATHER, one_call=True).is_complete
    assert not written(loaded, grammars, WEATHER).is_complete


def test_calls_that_may_be_made_stand_in_a_text_and_keep_to_their_schema(loaded: Any, grammars: Grammars) -> None:
    may = {"is_required": False}
    written(loaded, grammars, f"Baik.\n{WEATHER}\nSelesai.", **may)
    written(loaded, grammars, "Tidak perlu.", **may)
    with pytest.raises(InvalidConstraint):
        written(loaded, grammars, f"Baik. {WEATHER}".replace("Solo", "Rome"), **may)


def test_an_answer_of_a_schema_may_be_a_call_in_its_place(loaded: Any, grammars: Grammars) -> None:
    options = {"is_required": False, "answer": COUNT}
    assert written(loaded, grammars, '{"count": 4}', **options).is_complete
    written(loaded, grammars, WEATHER, **options)
    with pytest.raises(InvalidConstraint):
        written(loaded, grammars, "Halo", **options)


def test_a_name_with_quotes_is_written_as_json(loaded: Any, grammars: Grammars) -> None:
    source = calls_source({'a"b\\': ANY_OBJECT}, is_required=True, one_call=True)
    matcher = grammars.matcher(Constraint("calls", source))
    call = json.dumps({"name": 'a"b\\', "arguments": {}})
    for token in loaded.tokenizer(f"<tool_call>\n{call}\n</tool_call>").input_ids:
        matcher.take(token)
    assert matcher.is_complete


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "seed": 3}, {"temperature": 2.0, "seed": 8}])
def test_a_model_of_random_weights_calls_what_it_has_to_call(
    start_engine: Any, collect: Any, sampling: dict[str, Any]
) -> None:
    from jsonschema import validate

    request = GenerationRequest(
        messages=[{"role": "user", "content": "Hujan?"}],
        sampling=Sampling(max_tokens=400, **sampling),
        tools=TOOLS,
        one_call=True,
        constraint=Constraint("calls", calls_source(SCHEMAS, is_required=True, one_call=True)),
    )
    engine = start_engine()
    answer = collect(engine.submit(request))
    pieces = [piece for delta in answer.deltas for piece in delta.calls]
    [name] = [piece.name for piece in pieces if piece.name]
    validate(json.loads("".join(piece.arguments for piece in pieces)), SCHEMAS[name])
    assert answer.finish.reason == "tool_calls"
    assert answer.text == ""
    # An earlier attempt's tokens, and what follows them, are the same answer.
    half = len(answer.ids) // 2
    again = collect(
        engine.submit(
            GenerationRequest(
                messages=request.messages,
                sampling=request.sampling,
                tools=TOOLS,
                one_call=True,
                constraint=request.constraint,
                resume_ids=answer.ids[:half],
            )
        )
    )
    assert again.ids == answer.ids[half:]
    assert [piece for delta in again.deltas for piece in delta.calls] == [
        piece for delta in answer.deltas[half:] for piece in delta.calls
    ]
