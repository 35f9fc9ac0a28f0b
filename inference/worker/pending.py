"""The pieces of a session that wait for their commit. Pure: no lock, no thread, no database."""

from __future__ import annotations

from collections.abc import Sequence

from inference.worker.pieces import MAX_CHUNK_CHARS
from sessions_app.deltas import ContentDelta
from sessions_app.store.appending import Piece


class PendingPieces:
    """Pieces in the order of their commit, joined where they can be: each becomes a chunk.

    The order of the pieces of one answer is kept. The order between different answers does not matter, so a piece is
    joined to the newest one of its own answer, wherever that is.
    """

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        #: choice → index of its newest piece
        self._newest: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._pieces)

    def add(self, piece: Piece) -> None:
        choice = _choice_of(piece)
        place = self._newest.get(choice)
        if place is not None and _may_join(self._pieces[place].delta, piece.delta):
            self._pieces[place] = _joined(self._pieces[place], piece)
        else:
            self._newest[choice] = len(self._pieces)
            self._pieces.append(piece)

    def take(self) -> tuple[Piece, ...]:
        """Remove and return all pieces."""
        taken = tuple(self._pieces)
        self.clear()
        return taken

    def put_back(self, pieces: Sequence[Piece]) -> None:
        """Put pieces that were taken but not committed back, before those that were added since."""
        self._pieces = [*pieces, *self._pieces]
        self._newest = {_choice_of(piece): place for place, piece in enumerate(self._pieces)}

    def clear(self) -> None:
        self._pieces = []
        self._newest = {}


def _choice_of(piece: Piece) -> int:
    return piece.delta.get("choice", 0)


def _may_join(earlier: ContentDelta, later: ContentDelta) -> bool:
    if earlier["type"] == "call":
        is_same = later["type"] == "call" and earlier["call"] == later["call"]
    else:
        is_same = earlier["type"] == later["type"]
    return is_same and len(_characters(earlier)) + len(_characters(later)) <= MAX_CHUNK_CHARS


def _characters(delta: ContentDelta) -> str:
    return delta["arguments"] if delta["type"] == "call" else delta["text"]


def _joined(earlier: Piece, later: Piece) -> Piece:
    characters = _characters(earlier.delta) + _characters(later.delta)
    delta: ContentDelta
    if earlier.delta["type"] == "call":
        delta = {**earlier.delta, "arguments": characters}
    else:
        delta = {**earlier.delta, "text": characters}
    if logprobs := [*earlier.delta.get("logprobs", ()), *later.delta.get("logprobs", ())]:
        delta["logprobs"] = logprobs
    return Piece(delta, (*earlier.token_ids, *later.token_ids))
