"""Pieces that wait for a commit: joined where they can be, in order, and not lost when the commit fails."""

from __future__ import annotations

from typing import Any

import pytest

from inference.worker.pending import PendingPieces
from inference.worker.pieces import MAX_CHUNK_CHARS
from sessions_app.store.appending import Piece
from tests.content import text_of


def piece(text: str, *token_ids: int, kind: str = "text", choice: int = 0, logprobs: list[Any] | None = None) -> Piece:
    delta: Any = {"type": kind, "text": text}
    if choice:
        delta["choice"] = choice
    if logprobs is not None:
        delta["logprobs"] = logprobs
    return Piece(delta, token_ids)


@pytest.fixture
def pending() -> PendingPieces:
    return PendingPieces()


def test_nothing_waits_at_first(pending: PendingPieces) -> None:
    assert not pending
    assert pending.take() == ()


def test_pieces_of_one_kind_are_joined_with_their_tokens(pending: PendingPieces) -> None:
    for number, character in enumerate("abc"):
        pending.add(piece(character, number))
    assert len(pending) == 1
    assert pending.take() == (piece("abc", 0, 1, 2),)
    assert not pending


def test_log_probabilities_are_joined_too(pending: PendingPieces) -> None:
    pending.add(piece("a", 1))
    pending.add(piece("b", 2, logprobs=["b"]))
    pending.add(piece("c", 3, logprobs=["c"]))
    assert pending.take() == (piece("abc", 1, 2, 3, logprobs=["b", "c"]),)


def test_another_kind_is_another_piece(pending: PendingPieces) -> None:
    pieces = [piece("hm", 1, kind="reasoning"), piece("yes", 2), piece("hm", 3, kind="reasoning")]
    for one in pieces:
        pending.add(one)
    assert pending.take() == tuple(pieces)


def test_a_piece_is_joined_to_the_newest_of_its_own_choice(pending: PendingPieces) -> None:
    for number in range(3):
        for choice in range(3):
            pending.add(piece(str(choice), 10 * choice + number, choice=choice))
    assert pending.take() == (
        piece("000", 0, 1, 2),
        piece("111", 10, 11, 12, choice=1),
        piece("222", 20, 21, 22, choice=2),
    )


def test_a_joined_piece_has_as_many_characters_as_a_chunk_may_have(pending: PendingPieces) -> None:
    half = "x" * (MAX_CHUNK_CHARS // 2)
    for number in range(3):
        pending.add(piece(half, number))
    assert pending.take() == (piece(2 * half, 0, 1), piece(half, 2))


def test_pieces_that_are_given_back_come_before_those_that_came_since(pending: PendingPieces) -> None:
    pending.add(piece("a", 1))
    taken = pending.take()
    pending.add(piece("b", 2))
    pending.put_back(taken)
    pending.add(piece("c", 3))
    assert pending.take() == (piece("a", 1), piece("bc", 2, 3))


def test_a_later_piece_is_joined_to_one_that_was_given_back(pending: PendingPieces) -> None:
    pending.add(piece("a", 1))
    pending.add(piece("A", 10, choice=1))
    pending.put_back(pending.take())
    pending.add(piece("b", 2))
    assert pending.take() == (piece("ab", 1, 2), piece("A", 10, choice=1))


def test_pieces_survive_any_number_of_failed_commits(pending: PendingPieces) -> None:
    said = "any number of failed commits"
    for number, character in enumerate(said):
        pending.add(piece(character, number))
        if number % 3:
            pending.put_back(pending.take())
    pieces = pending.take()
    assert "".join(text_of(one) for one in pieces) == said
    assert [token_id for one in pieces for token_id in one.token_ids] == list(range(len(said)))


def test_after_clear_nothing_is_joined_to_what_was_there(pending: PendingPieces) -> None:
    pending.add(piece("a", 1))
    pending.clear()
    assert not pending
    pending.add(piece("b", 2))
    assert pending.take() == (piece("b", 2),)


def test_pieces_of_a_call_are_joined_and_those_of_two_calls_are_not(pending: PendingPieces) -> None:
    for call, arguments in ((0, "{"), (0, "}"), (1, "{}")):
        pending.add(Piece({"type": "call", "call": call, "arguments": arguments}, (call,)))
    assert pending.take() == (
        Piece({"type": "call", "call": 0, "arguments": "{}"}, (0, 0)),
        Piece({"type": "call", "call": 1, "arguments": "{}"}, (1,)),
    )
