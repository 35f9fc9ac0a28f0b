"""What the pieces of an answer say."""

from __future__ import annotations

from sessions_app.store.appending import Piece


def text_of(piece: Piece) -> str:
    """The text of a piece that has one."""
    assert piece.delta["type"] != "call"
    return piece.delta["text"]
