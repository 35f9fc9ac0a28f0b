"""Encodes text as tokens of text: no text becomes a control token."""

from __future__ import annotations

import math
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer

from inference.engine.errors import InvalidPrompt
from inference.engine.vocabulary import Vocabulary

#: characters encoded at once, which take a few milliseconds and memory that does not grow with the text
PIECE_CHARACTERS = 16_384

#: characters on each side of a cut that may combine; Unicode's stream-safe text has at most 30 marks (UAX #15)
_COMBINED = 32
#: factor by which a normalizer may shorten non-ASCII text, in bytes of UTF-8; the worst case for NFC is U+0390
_SHRINKS = {None: 1, "NFC": 3}


class TextEncoder:
    """Encodes like the model's tokenizer, but treats "<|im_end|>" in a text as text and not as the end of a turn.

    Used by any number of threads: it keeps no state, and the other threads run while it encodes.
    """

    def __init__(self, tokenizer: Any, vocabulary: Vocabulary, *, piece_characters: int = PIECE_CHARACTERS) -> None:
        self._controls = vocabulary.controls.keys()
        self._encoder, self._true_ids = _without_controls(tokenizer, self._controls)
        #: bytes of the longest token that is text
        self._longest = max(len(raw) for i, raw in enumerate(vocabulary.token_bytes) if i not in self._controls)
        normalizer = self._encoder.normalizer
        #: None for an unknown normalizer
        self._shrinks = _SHRINKS.get(None if normalizer is None else type(normalizer).__name__)
        #: characters of the longest text that was added to the tokenizer as a token
        self._phrase = max(
            (len(entry.content) for entry in self._encoder.get_added_tokens_decoder().values()), default=0
        )
        # If the tokenizer puts a space before every text, it would put one before each piece.
        puts_space = self._ids("a") == self._ids(" a")
        self._piece = sys.maxsize if puts_space else max(piece_characters, 4 * self._phrase)

    def at_least(self, text: str) -> int:
        """A lower bound of the number of tokens of ``text``, without encoding it."""
        if self._shrinks is None:
            return min(len(text), 1)
        size = len(text) if text.isascii() else len(text.encode()) / self._shrinks
        return math.ceil(size / self._longest)

    def pieces(self, text: str) -> Iterator[list[int]]:
        """The tokens of ``text``, in pieces that each take a few milliseconds.

        They equal the tokens of the whole text, unless it has a word or number of some thousand characters.
        Raises InvalidPrompt.
        """
        start = 0
        while len(text) - start > self._piece:
            piece = text[start : start + self._piece]
            [encoding] = self._encoder.encode_batch([piece], add_special_tokens=False)
            tokens, characters = _whole_words(encoding, piece, len(piece) - self._phrase)
            yield self._checked(encoding.ids[:tokens])
            start += characters
        if start < len(text):
            yield self._checked(self._ids(text[start:]))

    def _ids(self, text: str) -> list[int]:
        # As a batch, because ``encode`` holds the interpreter's lock until it returns.
        [encoding] = self._encoder.encode_batch_fast([text], add_special_tokens=False)
        return list(encoding.ids)

    def _checked(self, ids: list[int]) -> list[int]:
        if self._true_ids:
            ids = [self._true_ids.get(i, i) for i in ids]
        if not self._controls.isdisjoint(ids):
            raise InvalidPrompt("The conversation has a text that this model's tokenizer takes for a control token.")
        return ids


def _without_controls(tokenizer: Any, controls: Any) -> tuple[Tokenizer, dict[int, int]]:
    """A tokenizer over the same model without control tokens, and its ids that differ from those of ``tokenizer``."""
    backend = tokenizer.backend_tokenizer
    plain = Tokenizer(backend.model)
    plain.normalizer = backend.normalizer
    plain.pre_tokenizer = backend.pre_tokenizer
    added = {i: entry for i, entry in tokenizer.added_tokens_decoder.items() if i not in controls}
    plain.add_tokens(list(added.values()))
    given = {entry.content: i for i, entry in plain.get_added_tokens_decoder().items()}
    return plain, {given[entry.content]: i for i, entry in added.items() if given[entry.content] != i}


def _whole_words(encoding: Any, piece: str, most: int) -> tuple[int, int]:
    """(tokens, characters) of ``piece`` that do not depend on the text after it; all when there is no such boundary.

    How a text is split into words depends only on the next character, so all words except the last two are complete.
    Some models group digits from their end, so a number is not split. After ``most`` characters there may be the
    beginning of a phrase that is one token.
    """
    words, offsets = encoding.word_ids, encoding.offsets
    last = words[-1] - 1
    for place in range(len(words) - 1, 0, -1):
        if words[place] <= last and words[place] != words[place - 1]:
            cut = offsets[place][0]
            is_in_number = piece[cut - 1].isnumeric() and piece[cut].isnumeric()
            if 0 < cut <= most and not is_in_number and not _combine(piece[:cut], piece[cut:]):
                return place, cut
    return len(words), len(piece)


def _combine(text: str, following: str) -> bool:
    """Whether NFC, with which some models normalize, turns characters of both into one or changes their order."""
    before, after = text[-_COMBINED:], following[:_COMBINED]
    apart = unicodedata.normalize("NFC", before) + unicodedata.normalize("NFC", after)
    return unicodedata.normalize("NFC", before + after) != apart
