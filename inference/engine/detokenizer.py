"""Turns tokens into text one by one: whole characters, reasoning apart from the answer, stop strings removed."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass

from inference.engine.tool_calls import CallPiece, JsonCallReader
from inference.engine.vocabulary import CALL_TAGS, Vocabulary


@dataclass(frozen=True, slots=True)
class Decoded:
    """The part of the output that later tokens cannot change."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[CallPiece, ...] = ()

    def __add__(self, other: Decoded) -> Decoded:
        return Decoded(self.text + other.text, self.reasoning + other.reasoning, self.calls + other.calls)


class Detokenizer:
    """The text of one generation.

    Its output after k tokens depends on those k tokens alone, so a resumed generation feeds it the earlier tokens,
    discards their text, and continues with exactly the rest. The work per token does not grow with the text.

    Bytes that do not complete a character are held back until they do. So is text that may turn out to be the beginning
    of a stop string. Stop strings are searched for in the answer only: one in the reasoning or in a call is ignored.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        stop: Sequence[str] = (),
        min_tokens: int = 0,
        in_reasoning: bool = False,
        reads_calls: bool = False,
    ) -> None:
        self._vocabulary = vocabulary
        self._stop = tuple(s for s in stop if s)
        self._longest_stop = max(map(len, self._stop), default=0)
        #: proper prefixes of all stop strings
        self._stop_beginnings = {stop[:length] for stop in self._stop for length in range(1, len(stop))}
        self._min_tokens = min_tokens
        self._in_reasoning = in_reasoning
        # The newlines that follow a tag are formatting, not part of the text.
        self._at_start = in_reasoning
        self._call_start, self._call_end = vocabulary.call_start, vocabulary.call_end
        self._reads_calls = reads_calls
        #: the call that is being written
        self._call: JsonCallReader | None = None
        #: calls whose name has been returned, and those of them that are complete
        self.calls = 0
        self.complete_calls = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        #: whether a stop string has been found; no more tokens may be fed then
        self.stopped = False
        self.tokens = 0
        #: generated tokens of the reasoning, its tags included
        self.reasoning_tokens = 0

    @property
    def in_reasoning(self) -> bool:
        """Whether the next token belongs to the reasoning."""
        return self._in_reasoning

    def feed(self, token_id: int, *, is_text: bool = True) -> Decoded:
        """Take the next token and return what is final now. A token that is not text is only counted."""
        self.tokens += 1
        if self._in_reasoning or token_id == self._vocabulary.think_start:
            self.reasoning_tokens += 1
        if token_id == self._vocabulary.think_start:
            return self._switch(to_reasoning=True)
        if token_id == self._vocabulary.think_end:
            return self._switch(to_reasoning=False)
        if self._reads_calls and not self._in_reasoning:
            if token_id == self._call_start:
                return self._begin_call()
            if token_id == self._call_end and self._call is not None:
                return self._end_call()
        known = self._vocabulary.token_bytes
        # The output layer of a released model may be wider than its vocabulary.
        raw = known[token_id] if is_text and token_id < len(known) else b""
        return self._accept(self._decoder.decode(raw))

    def flush(self) -> Decoded:
        """What was held back, after the last token. An incomplete character becomes U+FFFD."""
        if self.stopped:
            return Decoded()
        piece = self._accept(self._decoder.decode(b"", final=True))
        held, self._held = self._held, ""
        return piece + self._leave_call() + Decoded(text=held)

    def _switch(self, *, to_reasoning: bool) -> Decoded:
        piece = self.flush()
        self._in_reasoning = to_reasoning
        self._at_start = True
        return piece

    def _begin_call(self) -> Decoded:
        if self._call is not None and self._call.is_begun:
            self.complete_calls += 1  # its end is missing
        piece = self.flush()
        self._call = JsonCallReader(self.calls)
        self._at_start = False
        return piece

    def _end_call(self) -> Decoded:
        piece = self._accept(self._decoder.decode(b"", final=True))
        if self._call is not None:
            was_begun = self._call.is_begun
            piece += _piece_of(self._call.finish())
            self.calls += self._call.is_begun and not was_begun
            self.complete_calls += self._call.is_begun
        self._at_start = True
        return piece + self._leave_call(CALL_TAGS[1])

    def _leave_call(self, behind: str = "") -> Decoded:
        """Leave a call. One without a usable name is returned as ordinary text."""
        call, self._call = self._call, None
        return Decoded() if call is None or call.is_begun else Decoded(text=CALL_TAGS[0] + call.raw + behind)

    def _accept(self, characters: str) -> Decoded:
        # No model outputs U+0000 deliberately, and PostgreSQL cannot store it.
        characters = characters.replace("\0", "\ufffd")
        if self._at_start:
            characters = characters.lstrip("\r\n")
            self._at_start = not characters
        if not characters:
            return Decoded()
        if self._in_reasoning:
            return Decoded(reasoning=characters)
        if self._call is not None:
            was_begun = self._call.is_begun
            piece = _piece_of(self._call.feed(characters))
            self.calls += self._call.is_begun and not was_begun
            return piece
        return Decoded(text=self._until_stop(characters))

    def _until_stop(self, characters: str) -> str:
        if not self._stop or self.tokens < self._min_tokens:
            return characters
        text = self._held + characters
        found = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        if found:
            self.stopped = True
            self._held = ""
            return text[: min(found)]
        certain = len(text) - self._possible_stop(text)
        self._held = text[certain:]
        return text[:certain]

    def _possible_stop(self, text: str) -> int:
        """Length of the longest suffix of ``text`` that is a proper prefix of a stop string."""
        for length in range(min(self._longest_stop - 1, len(text)), 0, -1):
            if text[-length:] in self._stop_beginnings:
                return length
        return 0


def _piece_of(call: CallPiece) -> Decoded:
    return Decoded(calls=(call,) if call else ())
