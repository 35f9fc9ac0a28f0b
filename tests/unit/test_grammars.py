"""What an answer is to be held to is checked before the run, where hostile input can do no harm."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_django import Settings

from inference import grammars
from inference.engine.types import Constraint
from inference.errors import InvalidRequest
from inference.media.decoding import decoding_pool


@pytest.fixture(scope="module", autouse=True)
def pool() -> Iterator[None]:
    decoding_pool().start()
    yield
    decoding_pool().stop()


def check(constraint: Constraint) -> Constraint:
    return asyncio.run(grammars.check(constraint, param="response_format"))


def refusal(constraint: Constraint) -> str:
    with pytest.raises(InvalidRequest) as refused:
        check(constraint)
    assert (refused.value.param, refused.value.code) == ("response_format", "unsupported_constraint")
    assert len(refused.value.message) < 500
    return refused.value.message


def schema(**value: Any) -> Constraint:
    return Constraint("json_schema", json.dumps({"type": "object", "properties": {"a": value}, "required": ["a"]}))


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint("json_object"),
        schema(type="string", format="date-time"),
        schema(anyOf=[{"type": "string", "pattern": "^[A-Z]+$"}, {"type": "null"}]),
        schema(type="integer", minimum=-5, exclusiveMaximum=10, multipleOf=5),
        schema(type="array", items={"enum": [1, "b", None]}, minItems=1, maxItems=4),
        # What says nothing about the value passes: pydantic and others write it.
        schema(type="string", title="A", description="b", default="c", examples=["d"], deprecated=True, nullable=True),
        Constraint("json_schema", '{"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": {"$ref": "#"}}}}'),
        Constraint("regex", r"\d{2,4}(-[^\n]+)?"),
        Constraint("choice", '["ya", "\\"tidak\\"", "", "\\u00e9\\n"]'),
        Constraint("grammar", 'start: "a" start | "b"'),
    ],
)
def test_what_can_be_enforced_passes_as_it_is(constraint: Constraint) -> None:
    assert check(constraint) == constraint


def test_a_grammar_of_llama_cpp_is_turned_into_larks_notation() -> None:
    known = check(Constraint("grammar", 'root ::= "ya" | "tidak" [0-9]+'))
    assert known.source.startswith("%llguidance") or "start:" in known.source
    assert check(known) == known


@pytest.mark.parametrize(
    ("constraint", "named"),
    [
        (schema(type="array", uniqueItems=True), '"uniqueItems"'),
        (schema(**{"not": {"type": "string"}}), '"not"'),
        (schema(**{"if": {"type": "string"}, "then": {"minLength": 2}}), '"if", "then"'),
        (schema(type="object", propertyNames={"pattern": "^a"}), '"propertyNames"'),
        (schema(type="object", unevaluatedProperties=False), '"unevaluatedProperties"'),
        (schema(type="string", format="nik"), '"format"'),
        (schema(type="string", pattern="(?=a)b"), '"pattern"'),
        (schema(oneOf=[{"type": "string", "minLength": 2}, {"type": "string"}]), '"oneOf"'),
        (schema(**{"$ref": "http://169.254.169.254/schema"}), '"$ref"'),
        (schema(**{"$ref": "#/$defs/none"}), '"$ref"'),
        (schema(type="number", minimum=3, maximum=1), "unsatisfiable"),
        (schema(type="text"), "text"),
        (schema(minLength="a"), "minLength"),
        (Constraint("json_schema", '{"x-guidance": {"lenient": true}, "uniqueItems": true}'), '"uniqueItems"'),
        (Constraint("regex", "(a"), "unclosed group"),
        (Constraint("regex", r"(a)\1"), "backreference"),
        (Constraint("grammar", "start: nothing"), "nothing"),
        (Constraint("grammar", 'start: "a" <|im_end|>'), "special tokens"),
        (Constraint("grammar", 'start: "a" <[5]>'), "special tokens"),
        (Constraint("grammar", "what is this"), "grammar"),
    ],
)
def test_what_cannot_be_enforced_is_refused_with_what_is_wrong(constraint: Constraint, named: str) -> None:
    assert named in refusal(constraint)


HOSTILE = {
    "nested": Constraint("json_schema", '{"items":' * 200 + "{}" + "}" * 200),
    "a chain of definitions": Constraint(
        "json_schema",
        json.dumps(
            {
                "$ref": "#/$defs/d0",
                "$defs": {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"type": "null"}]} for n in range(900)}
                | {"d900": {}},
            }
        ),
    ),
    "a chain of rules": Constraint("grammar", "start: a0\n" + "\n".join(f'a{n}: a{n + 1} "x"' for n in range(3900))),
    "a chain of terminals": Constraint(
        "grammar", "start: A0\n" + "\n".join(f'A{n}: A{n + 1} "x"' for n in range(3900)) + '\nA3900: "a"'
    ),
    "parentheses": Constraint("grammar", "start: " + "(" * 30_000 + '"a"' + ")" * 30_000),
    "groups": Constraint("regex", "(" * 30_000 + "a" + ")" * 30_000),
    "products": Constraint(
        "json_schema",
        json.dumps(
            {"allOf": [{"anyOf": [{"properties": {f"k{i}{j}": {}}} for j in range(9)]} for i in range(9)]},
        ),
    ),
    "wide inside": schema(type="object", properties={f"p{number}": {} for number in range(2000)}),
    "brackets of llama.cpp": Constraint("grammar", "root ::= " + "(" * 20_000 + '"a"' + ")" * 20_000),
}


@pytest.mark.parametrize("constraint", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_grammar_is_refused_and_harms_nobody(constraint: Constraint, settings: Settings) -> None:
    assert len(constraint.source) <= settings.MAX_GRAMMAR_BYTES
    refusal(constraint)
    assert check(Constraint("json_object"))
