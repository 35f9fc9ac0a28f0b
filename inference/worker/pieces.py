"""From the deltas of the engine to pieces that can be stored. Pure: no lock, no thread, no database."""

from __future__ import annotations

from collections.abc import Iterable

from inference.engine.tool_calls import CallPiece
from inference.engine.types import Delta, Likelihood, TokenLogprobs
from sessions_app.deltas import TEXT_DELTAS, CallDelta, ContentDelta, StoredLogprob, StoredTokenLogprob, TextKind
from sessions_app.storable import WholeCharacters
from sessions_app.store.appending import Piece

#: maximum characters of a chunk's text, because the live view sends no message over 1 MiB
MAX_CHUNK_CHARS = 32_768


class PieceMaker:
    """Makes the pieces of one answer.

    Tokens without text are held until the text that they are part of arrives, and half a character until its other half
    does. So a piece always has the tokens that its text was made of, and their log probabilities.
    """

    def __init__(self, choice: int) -> None:
        self._choice = choice
        self._characters = WholeCharacters()
        self._token_ids: list[int] = []
        self._logprobs: list[StoredTokenLogprob] = []

    def add(self, delta: Delta) -> list[Piece]:
        """The pieces that are final once this delta has arrived."""
        pieces: list[Piece] = []
        if self._characters.is_holding and (kind := _first_kind_in(delta)):
            # Half a character of another kind goes with its own tokens, before those of this delta.
            pieces += self._pieces_of(self._characters.turn_to(kind))
        self._token_ids += delta.token_ids
        self._logprobs += map(_stored, delta.logprobs)
        for kind in TEXT_DELTAS:
            if text := getattr(delta, kind):
                pieces += self._pieces_of(self._characters.add(kind, text))
        for call in delta.calls:
            pieces += self._pieces_of(self._characters.end())
            pieces += self._pieces_of_call(call)
        return pieces

    def end(self) -> list[Piece]:
        """The remaining pieces, after the last delta."""
        return self._pieces_of(self._characters.end() or [("text", "")])

    def _pieces_of(self, said: Iterable[tuple[TextKind, str]]) -> list[Piece]:
        return [
            piece
            for kind, text in said
            for start in range(0, len(text) or 1, MAX_CHUNK_CHARS)
            if (piece := self._piece(kind, text[start : start + MAX_CHUNK_CHARS])) is not None
        ]

    def _pieces_of_call(self, call: CallPiece) -> list[Piece]:
        pieces = []
        for start in range(0, len(call.arguments) or 1, MAX_CHUNK_CHARS):
            arguments = call.arguments[start : start + MAX_CHUNK_CHARS]
            delta: CallDelta = {"type": "call", "call": call.call, "arguments": arguments}
            if call.name and not start:
                delta["name"] = call.name
            pieces.append(self._with_tokens(delta))
        return pieces

    def _piece(self, kind: TextKind, text: str) -> Piece | None:
        """A piece with all tokens that have no text yet; None when there is neither text nor a token."""
        if not (text or self._token_ids):
            return None
        return self._with_tokens({"type": kind, "text": text})

    def _with_tokens(self, delta: ContentDelta) -> Piece:
        if self._choice:
            delta["choice"] = self._choice
        if self._logprobs:
            delta["logprobs"] = self._logprobs
        piece = Piece(delta, tuple(self._token_ids))
        self._token_ids, self._logprobs = [], []
        return piece


def _first_kind_in(delta: Delta) -> TextKind | None:
    return "reasoning" if delta.reasoning else "refusal" if delta.refusal else "text" if delta.text else None


def _stored(logprobs: TokenLogprobs) -> StoredTokenLogprob:
    return {**_likelihood(logprobs.chosen), "top": [_likelihood(likelihood) for likelihood in logprobs.top]}


def _likelihood(likelihood: Likelihood) -> StoredLogprob:
    raw = likelihood.raw
    return {
        "token": likelihood.token,
        "bytes": None if raw is None else list(raw),
        "logprob": likelihood.logprob,
    }
