"""Answers of a form that the request gives, as the official SDK and vLLM's users ask for them."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

import httpx
import jsonschema
import openai
import pytest
from pydantic import BaseModel, Field

from tests.live.events import QUESTION, read_stream, text_of

HELLO: list[Any] = [{"role": "user", "content": "Siapa kamu?"}]
CARD = {
    "type": "object",
    "properties": {
        "nama": {"type": "string", "maxLength": 20},
        "lahir": {"type": "string", "pattern": "^([0-9]{2}-[0-9]{2}-[0-9]{4})?$"},
        "agama": {"anyOf": [{"enum": ["ISLAM", "HINDU"]}, {"type": "null"}]},
    },
    "required": ["nama", "lahir", "agama"],
    "additionalProperties": False,
}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "card", "strict": True, "schema": CARD}}


class Street(BaseModel):
    name: str = Field(max_length=15)
    number: int = Field(ge=1, le=300)


class Person(BaseModel):
    name: str = Field(max_length=15)
    kind: Literal["person", "company"]
    streets: list[Street] = Field(min_length=1, max_length=2)


def test_the_sdk_parses_an_answer_into_a_model_of_pydantics(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(model="tiny", messages=HELLO, max_tokens=400, response_format=Person)
    assert isinstance(answer.choices[0].message.parsed, Person)
    assert answer.choices[0].finish_reason == "stop"


def test_the_sdk_says_of_an_answer_that_was_cut_that_it_was(client: openai.OpenAI) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model="tiny", messages=HELLO, max_tokens=5, response_format=Person)


@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 1, "seed": 4, "n": 2}], ids=["greedy", "n"])
def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI, sampling: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"model": "tiny", "messages": HELLO, "max_tokens": 300, "response_format": JSON_SCHEMA}
    whole = client.chat.completions.create(**asked, **sampling)
    streamed: dict[int, str] = {}
    for piece in client.chat.completions.create(**asked, **sampling, stream=True):
        for choice in piece.choices:
            streamed[choice.index] = streamed.get(choice.index, "") + (choice.delta.content or "")
    assert streamed == {choice.index: choice.message.content for choice in whole.choices}
    for text in streamed.values():
        jsonschema.validate(json.loads(text), CARD)


@pytest.mark.parametrize(
    ("fields", "pattern"),
    [
        ({"structured_outputs": {"choice": ["ya", "tidak"]}}, "ya|tidak"),
        ({"structured_outputs": {"regex": "[A-Z]{3}[0-9]{4}"}}, "[A-Z]{3}[0-9]{4}"),
        ({"structured_outputs": {"grammar": 'root ::= "no " [0-9] [0-9]'}}, "no [0-9]{2}"),
        ({"guided_choice": ["ya", "tidak"]}, "ya|tidak"),
        ({"guided_regex": "[a-c]{9}"}, "[a-c]{9}"),
        ({"guided_grammar": 'start: "<" /[a-z]{2}/ ">"'}, "<[a-z]{2}>"),
    ],
)
def test_vllms_names_work_as_there(http: httpx.Client, fields: dict[str, Any], pattern: str) -> None:
    text = text_of(read_stream(http, QUESTION | fields))
    assert re.fullmatch(pattern, text)


@pytest.mark.parametrize(
    ("fields", "param", "named"),
    [
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}},
            "response_format",
            "not",
        ),
        ({"guided_json": {"uniqueItems": True, "type": "array"}}, "guided_json", "uniqueItems"),
        ({"structured_outputs": {"regex": "(?=a)"}}, "structured_outputs.regex", "look-around"),
        (
            {"guided_grammar": "start: A0\n" + "\n".join(f'A{n}: A{n + 1} "x"' for n in range(3900))},
            "guided_grammar",
            "",
        ),
    ],
)
def test_a_form_that_cannot_be_enforced_is_refused_and_named(
    http: httpx.Client, fields: dict[str, Any], param: str, named: str
) -> None:
    refused = http.post("/v1/chat/completions", json=QUESTION | fields)
    error = refused.json()["error"]
    assert (refused.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert named in error["message"]
    assert http.post("/v1/chat/completions", json=QUESTION | {"guided_regex": "[0-9]"}).status_code == 200
