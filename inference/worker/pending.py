"""The pieces of a session that wait for their commit. Pure: no lock, no thread, no database."""

from __future__ import annotations

from collections.abc import Sequence

from inference.worker.pieces import MOST_CHUNK_CHARS
from sessions_app.deltas import SaidDelta
from sessions_app.store.appending import Piece


class PendingPieces:
    """Pieces in the order of their commit, joined where they can be: each becomes a chunk.

    The order of the pieces of one answer is kept. Between two answers the order means nothing, so a piece is joined to
    the newest one of its own answer, wherever that is.
    """

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        #: choice → place of its newest piece
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
        """All of them. None is left."""
        taken = tuple(self._pieces)
        self.clear()
        return taken

    def give_back(self, pieces: Sequence[Piece]) -> None:
        """Put pieces that were taken and not committed before those that came since."""
        self._pieces = [*pieces, *self._pieces]
        self._newest = {_choice_of(piece): place for place, piece in enumerate(self._pieces)}

    def clear(self) -> None:
        self._pieces = []
        self._newest = {}


def _choice_of(piece: Piece) -> int:
    return piece.delta.get("choice", 0)


def _may_join(earlier: SaidDelta, later: SaidDelta) -> bool:
    return earlier["type"] == later["type"] and len(earlier["text"]) + len(later["text"]) <= MOST_CHUNK_CHARS


def _joined(earlier: Piece, later: Piece) -> Piece:
    delta: SaidDelta = {**earlier.delta, "text": earlier.delta["text"] + later.delta["text"]}
    if logprobs := [*earlier.delta.get("logprobs", ()), *later.delta.get("logprobs", ())]:
        delta["logprobs"] = logprobs
    return Piece(delta, (*earlier.token_ids, *later.token_ids))
