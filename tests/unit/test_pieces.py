"""From deltas to pieces: every token with the text that it is part of, whole characters, and no piece too long."""

from __future__ import annotations

from inference.engine.tool_calls import CallPiece
from inference.engine.types import Delta, Likelihood, TokenLogprobs
from inference.worker.pieces import MAX_CHUNK_CHARS, PieceMaker
from sessions_app.store.appending import Piece
from tests.content import text_of

FIRST_HALF, SECOND_HALF = "\ud83d", "\ude00"


def test_each_kind_of_a_delta_is_a_piece_and_the_first_has_the_tokens() -> None:
    maker = PieceMaker(0)
    assert maker.add(Delta((1, 2), reasoning="hm", text="yes")) == [
        Piece({"type": "reasoning", "text": "hm"}, (1, 2)),
        Piece({"type": "text", "text": "yes"}, ()),
    ]


def test_tokens_without_text_wait_for_their_text() -> None:
    maker = PieceMaker(0)
    assert maker.add(Delta((240,))) == []
    assert maker.add(Delta((159, 145))) == []
    assert maker.add(Delta((139,), text="👋")) == [Piece({"type": "text", "text": "👋"}, (240, 159, 145, 139))]


def test_tokens_without_text_are_a_piece_at_the_end() -> None:
    maker = PieceMaker(0)
    assert maker.add(Delta((5, 6))) == []
    assert maker.end() == [Piece({"type": "text", "text": ""}, (5, 6))]


def test_nothing_is_left_at_the_end_of_a_complete_answer() -> None:
    maker = PieceMaker(0)
    maker.add(Delta((1,), text="a"))
    assert maker.end() == []


def test_only_further_answers_have_their_number() -> None:
    assert PieceMaker(2).add(Delta((1,), text="a")) == [Piece({"type": "text", "text": "a", "choice": 2}, (1,))]


def test_a_character_in_two_halves_is_one_piece_with_the_tokens_of_both() -> None:
    maker = PieceMaker(0)
    assert maker.add(Delta((1,), text="a" + FIRST_HALF)) == []
    assert maker.add(Delta((2,), text=SECOND_HALF)) == [Piece({"type": "text", "text": "a😀"}, (1, 2))]


def test_a_half_that_another_kind_follows_keeps_its_own_tokens() -> None:
    maker = PieceMaker(0)
    assert maker.add(Delta((1,), reasoning=FIRST_HALF)) == []
    assert maker.add(Delta((2,), text="a")) == [
        Piece({"type": "reasoning", "text": "\ufffd"}, (1,)),
        Piece({"type": "text", "text": "a"}, (2,)),
    ]


def test_a_long_text_is_cut_and_its_tokens_go_with_the_first_part() -> None:
    pieces = PieceMaker(0).add(Delta((1, 2), text="x" * MAX_CHUNK_CHARS + "y"))
    assert [(len(text_of(piece)), piece.token_ids) for piece in pieces] == [(MAX_CHUNK_CHARS, (1, 2)), (1, ())]


def test_log_probabilities_are_stored_with_the_tokens_that_they_are_of() -> None:
    maker = PieceMaker(0)
    likelihood = Likelihood(97, "a", b"a", -0.5)
    stored = {"token": "a", "bytes": [97], "logprob": -0.5}
    [piece] = maker.add(Delta((97,), text="a", logprobs=(TokenLogprobs(likelihood, (likelihood,)),)))
    assert piece.delta["logprobs"] == [stored | {"top": [stored]}]
    [later] = maker.add(Delta((98,), text="b"))
    assert "logprobs" not in later.delta


def test_a_call_has_its_name_in_its_first_piece_and_long_arguments_are_cut() -> None:
    maker = PieceMaker(0)
    long = "{" + "x" * MAX_CHUNK_CHARS
    named, rest = maker.add(Delta((1, 2), calls=(CallPiece("weather", long, 1),)))
    assert named == Piece(
        {"type": "call", "call": 1, "name": "weather", "arguments": long[:MAX_CHUNK_CHARS]}, token_ids=(1, 2)
    )
    assert rest == Piece({"type": "call", "call": 1, "arguments": "x"}, token_ids=())


def test_a_call_begins_with_a_piece_that_has_only_its_name() -> None:
    [begun] = PieceMaker(0).add(Delta((7,), calls=(CallPiece("weather"),)))
    assert begun == Piece({"type": "call", "call": 0, "name": "weather", "arguments": ""}, token_ids=(7,))
