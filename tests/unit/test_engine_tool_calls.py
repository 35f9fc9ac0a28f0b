"""A tool call that a model writes is read piece by piece, and is the same however the pieces fall."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.tool_calls import JsonCallReader

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=6), JSON, max_size=4)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12)


def read(text: str, *, cuts: list[int] | None = None) -> tuple[list[str], str, JsonCallReader]:
    """(the names that were given out, the arguments), with ``text`` cut at these places."""
    reader = JsonCallReader()
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts or [])})
    pieces = [reader.feed(text[start:end]) for start, end in itertools.pairwise(places)]
    pieces.append(reader.finish())
    return [piece.name for piece in pieces if piece.name], "".join(piece.arguments for piece in pieces), reader


@given(name=NAMES, arguments=OBJECTS, cuts=st.lists(st.integers(0, 200), max_size=6), indent=st.none() | st.just(2))
def test_a_call_is_read_however_it_is_cut(
    name: str, arguments: dict[str, Any], cuts: list[int], indent: int | None
) -> None:
    text = json.dumps({"name": name, "arguments": arguments}, indent=indent, ensure_ascii=False)
    names, read_arguments, reader = read(f"\n{text}\n", cuts=cuts)
    assert names == [name]
    assert json.loads(read_arguments) == arguments
    assert reader.is_complete


@given(name=NAMES, arguments=OBJECTS, cuts=st.lists(st.integers(0, 200), max_size=6))
def test_arguments_before_the_name_wait_for_it(name: str, arguments: dict[str, Any], cuts: list[int]) -> None:
    names, read_arguments, _ = read(json.dumps({"arguments": arguments, "id": 1, "name": name}), cuts=cuts)
    assert names == [name]
    assert json.loads(read_arguments) == arguments


def test_the_arguments_come_character_by_character() -> None:
    reader = JsonCallReader()
    assert reader.feed('{"name": "weather", "arguments": {"ci').name == "weather"
    assert reader.feed('ty": "So').arguments == 'ty": "So'
    assert reader.feed('lo"}').arguments == 'lo"}'
    assert not reader.is_complete
    assert not reader.feed("}")
    assert reader.is_complete


@pytest.mark.parametrize(
    "text", ['{"name": "now"}', '{"name": "now", "arguments": null}', '{"arguments": {}, "name": "now"}']
)
def test_a_call_without_arguments_has_an_empty_object(text: str) -> None:
    assert read(text)[:2] == (["now"], "{}")


def test_arguments_that_are_a_text_are_that_text() -> None:
    assert read('{"name": "f", "arguments": "{\\"a\\": \\"\\\\n\\"}"}')[:2] == (["f"], '{"a": "\\n"}')


@pytest.mark.parametrize(
    "text",
    [
        "weather(Solo)",
        "[1]",
        '{"name": }',
        '{name: "f"}',
        '{"name": "f" "arguments": {}}',
        '{"name": "f"}{',
        '{"a"; 1}',
        "{1: 2}",
    ],
)
def test_what_is_no_call_is_broken_and_kept_as_it_is(text: str) -> None:
    reader = JsonCallReader()
    for character in text:
        reader.feed(character)
    assert reader.is_broken
    assert not reader.is_complete
    # One whose name is known has begun, and can be no text any more.
    assert reader.raw == ("" if reader.is_begun else text)


def test_arguments_that_come_twice_count_once() -> None:
    text = '{"name": "f", "arguments": {"a": 1}, "parameters": {"b": 2}, "arguments": "{}"}'
    assert read(text)[:2] == (["f"], '{"a": 1}')


@pytest.mark.parametrize("name", ["1", '""', "null", "[]"])
def test_a_call_needs_a_name(name: str) -> None:
    names, _, reader = read(f'{{"name": {name}, "arguments": {{}}}}')
    assert names == []
    assert not reader.is_complete


def test_a_call_that_is_cut_off_is_not_complete() -> None:
    names, arguments, reader = read('{"name": "f", "arguments": {"a": "b')
    assert (names, arguments) == (["f"], '{"a": "b')
    assert not reader.is_complete


@pytest.mark.parametrize("member", ["arguments", "id"])
def test_values_nested_without_an_end_are_read(member: str) -> None:
    names, _, reader = read(f'{{"name": "f", "{member}": {"[" * 100_000}{"]" * 100_000}}}')
    assert names == ["f"]
    assert reader.is_complete


def test_a_call_that_ends_too_early_has_an_empty_object() -> None:
    assert read('{"name": "f"')[:2] == (["f"], "{}")
    assert read('{"name": "f", "arguments": ""}')[:2] == (["f"], "{}")


def test_a_name_of_any_length_is_no_name() -> None:
    names, _, reader = read(f'{{"name": "{"f" * 300}", "arguments": {{}}}}')
    assert names == []
    assert reader.is_broken
