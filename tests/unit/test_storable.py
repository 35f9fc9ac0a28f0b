"""What the log can keep of what is said: whole characters, finite numbers, counts that fit."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions_app.deltas import TextKind
from sessions_app.storable import (
    MAX_COUNT,
    WholeCharacters,
    storable_bytes,
    storable_count,
    storable_delta,
    storable_error,
    storable_logprob,
    storable_text,
    storable_token_ids,
)

#: with halves of pairs and NUL among the characters, more often than chance has it
TEXTS = st.text(st.one_of(st.characters(exclude_categories=()), st.sampled_from("\0\ud83d\ude00\udbff\udc00aé😀")))
KINDS = st.sampled_from(["text", "reasoning"])


@pytest.mark.parametrize("text", ["", "a\n\t\x1b\x7f", "é\x85\u2028", "😀👩‍👩‍👧", "\ufffd\ufffe\uffff\ufeff"])
def test_valid_text_stays_as_it_is(text: str) -> None:
    assert storable_text(text) == text


@given(TEXTS)
def test_any_text_becomes_one_that_is_utf8_and_has_no_nul(text: str) -> None:
    stored = storable_text(text)
    assert "\0" not in json.loads(json.dumps(stored, ensure_ascii=False).encode())
    assert storable_text(stored) == stored


@given(st.text(), st.lists(st.integers(0, 400)))
def test_text_that_is_cut_between_utf16_units_comes_out_whole(text: str, cuts: list[int]) -> None:
    text = text.replace("\0", "")
    units = text.encode("utf-16-le")
    places = sorted({0, len(units), *(2 * (cut % (len(units) // 2 + 1)) for cut in cuts)})
    characters = WholeCharacters()
    said = ""
    for start, end in itertools.pairwise(places):
        piece = units[start:end].decode("utf-16-le", "surrogatepass")
        said += "".join(certain for _, certain in characters.add("text", piece))
    assert said + "".join(certain for _, certain in characters.end()) == text


@given(st.lists(st.tuples(KINDS, TEXTS)))
def test_what_has_come_out_is_the_beginning_of_what_comes_out_in_the_end(pieces: list[tuple[TextKind, str]]) -> None:
    characters = WholeCharacters()
    certain: list[tuple[TextKind, str]] = []
    for kind, text in pieces:
        certain += characters.add(kind, text)
        for _, said in certain:
            said.encode()
    certain += characters.end()
    for kind in ("text", "reasoning"):
        # A half is lost to its other half when the other kind comes between, and never to its own.
        said = "".join(text for k, text in certain if k == kind)
        units = sum(len(text.encode("utf-16-le", "surrogatepass")) for k, text in pieces if k == kind)
        assert len(said.encode("utf-16-le")) == units
    # What is clean passes a second border as it is.
    again = WholeCharacters()
    assert [pair for kind, text in certain for pair in again.add(kind, text)] == certain
    assert again.end() == []


def test_of_a_second_piece_that_is_cut_only_the_half_is_held_back() -> None:
    characters = WholeCharacters()
    assert characters.add("text", "a\ud83d") == []
    assert characters.add("text", "\ude00b\ud83d") == [("text", "a\U0001f600b")]
    assert characters.add("text", "\ude00") == [("text", "\U0001f600")]
    assert not characters.is_holding


def test_an_unknown_token_id_is_stored_as_unknown() -> None:
    assert storable_token_ids([0, 7, -5, 2**40]) == [0, 7, -1, -1]


def test_pieces_that_are_all_cut_do_not_pile_up() -> None:
    characters = WholeCharacters()
    sizes = [sum(len(text) for _, text in characters.add("text", "\ude00\ud83d")) for _ in range(1000)]
    assert sizes[1:] == [2, *[1] * 998]


@pytest.mark.parametrize("value", [0, -0.5, -1, -9999.0, 1e-7])
def test_a_log_probability_stays(value: float) -> None:
    assert storable_logprob(value) == value


@pytest.mark.parametrize("value", [-math.inf, math.inf, math.nan, -10000, 10**400, -(10**400), 5, None, "-1", True, []])
def test_what_is_none_is_the_least(value: Any) -> None:
    assert storable_logprob(value) == -9999.0


@pytest.mark.parametrize("value", [0, 7, 7.0, MAX_COUNT])
def test_a_count_stays(value: Any) -> None:
    assert storable_count(value) == value


@pytest.mark.parametrize("value", [-1, 7.5, math.nan, math.inf, MAX_COUNT + 1, 10**400, "7", None, True, [], {}])
def test_what_is_none_is_not_counted(value: Any) -> None:
    assert storable_count(value) is None


@pytest.mark.parametrize(
    ("value", "stored"), [([0, 255], [0, 255]), (b"a", [97]), ([], []), ([256], None), ([1.5], None), ("a", None)]
)
def test_bytes_are_a_list_of_them_or_nothing(value: Any, stored: Any) -> None:
    assert storable_bytes(value) == stored


def test_a_delta_without_anything_odd_is_itself() -> None:
    delta = {
        "type": "text",
        "text": "é",
        "choice": 1,
        "logprobs": [{"token": "é", "bytes": None, "logprob": 0, "top": []}],
    }
    assert storable_delta(delta) == delta
    assert storable_delta({"type": "start"}) == {"type": "start"}


def test_a_likelihood_without_alternatives_has_none() -> None:
    entry = {"token": "a", "bytes": [97], "logprob": 0}
    delta = {"type": "text", "text": "a", "logprobs": [entry]}
    assert storable_delta(delta)["logprobs"] == [entry | {"top": []}]


def test_an_error_keeps_its_members_and_not_its_length() -> None:
    error = {"message": "\0" + "é" * 5000, "type": "t", "param": None, "code": "\ud800"}
    stored = storable_error(error)
    assert stored == {"message": "\ufffd" + "é" * 1999, "type": "t", "param": None, "code": "\ufffd"}
