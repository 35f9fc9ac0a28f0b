"""The model's confidence in each value: the probability of its least likely token.

A model writes a digit even if the digit is smudged; the probabilities show the alternatives. One uncertain character
makes the whole value uncertain, so the minimum is used and not the mean.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ocr.reading.problems import Problem
from ocr.reading.schema import FIELDS
from ocr.reading.uncertain import UncertainPlace

#: a string member of the contract's object, at any depth: no key occurs twice in the contract
_PATHS = {field.path.rpartition(".")[2].encode(): field.path for field in FIELDS}
_MEMBER = re.compile(rb'"(' + b"|".join(_PATHS) + rb')"\s*:\s*"((?:[^"\\]|\\.)*)"')


#: an alternative less probable than this is not shown to reviewers
MIN_ALTERNATIVE_PROBABILITY = 0.03
MAX_OTHERS = 2


class Token(NamedTuple):
    """One token of the answer, in order."""

    #: the bytes of its text; b"" for a special token
    raw: bytes
    #: natural logarithm of its probability
    logprob: float
    #: the likeliest alternatives, as many as were requested
    others: tuple[tuple[bytes, float], ...] = ()


class Member(NamedTuple):
    """One value of the answer and its tokens, including the closing quote."""

    path: str
    #: the bytes of the value in the JSON
    raw: bytes
    #: each token with the offset of its first byte from the beginning of the value
    tokens: list[tuple[int, Token]]

    @property
    def least(self) -> float:
        """The probability of its least likely token."""
        return math.exp(min(token.logprob for _, token in self.tokens))


def stored_tokens(logprobs: Iterable[Mapping[str, Any]]) -> list[Token]:
    """The tokens in the log probabilities of a session's deltas."""
    return [
        Token(
            bytes(entry["bytes"] or ()),
            entry["logprob"],
            tuple((bytes(other["bytes"] or ()), other["logprob"]) for other in entry.get("top") or ()),
        )
        for entry in logprobs
    ]


def members(tokens: Iterable[Token]) -> list[Member]:
    """All values of the answer that belong to a path of ``FIELDS``, in order.

    Only members with the contract's own key names are found.
    """
    text, placed = bytearray(), []
    for token in tokens:
        placed.append((len(text), token))
        text += token.raw
    found = []
    for member in _MEMBER.finditer(bytes(text)):
        begin, end = member.start(2), member.end()
        touching = [(at - begin, token) for at, token in placed if at + len(token.raw) > begin and at < end]
        found.append(Member(_PATHS[member[1]], member[2], touching))
    return found


def least_probabilities(tokens: Iterable[Token]) -> dict[str, float]:
    """Path of ``FIELDS`` → the probability of the least likely token in the value.

    For a repeated member it is the minimum over all its occurrences.
    """
    least: dict[str, float] = {}
    for member in members(tokens):
        least[member.path] = min(least.get(member.path, 1.0), member.least)
    return least


def check(values: Mapping[str, str], tokens: Iterable[Token], *, below: float) -> list[Problem]:
    """A flag for each value with a token less probable than ``below``. Empty values are flagged by the checks."""
    found = members(tokens)
    least: dict[str, float] = {}
    for member in found:
        least[member.path] = min(least.get(member.path, 1.0), member.least)
    return [
        Problem(path, "uncertain", uncertain=_places(values[path], [m for m in found if m.path == path], below))
        for path, probability in least.items()
        if values[path] and probability < below
    ]


def _places(value: str, written: list[Member], below: float) -> tuple[UncertainPlace, ...]:
    """The uncertain places in ``value``; none unless ``written`` is one member with exactly this value."""
    if len(written) != 1 or written[0].raw != value.encode():
        return ()
    raw = written[0].raw
    places = []
    for at, token in written[0].tokens:
        if math.exp(token.logprob) < below and (place := _place(raw, at, token)) is not None:
            places.append(place)
    return tuple(places)


def _place(raw: bytes, at: int, token: Token) -> UncertainPlace | None:
    """The place of the token in the value; None if the token does not begin and end at character boundaries."""
    start, end = max(at, 0), min(at + len(token.raw), len(raw))
    lead = token.raw[: start - at]
    others = [
        (text[len(lead) :].partition(b'"')[0], math.exp(logprob))
        for text, logprob in token.others
        if text != token.raw
        and text.startswith(lead)
        and b"\\" not in text
        and math.exp(logprob) >= MIN_ALTERNATIVE_PROBABILITY
    ][:MAX_OTHERS]
    try:
        before, text = raw[:start].decode(), raw[start:end].decode()
        alternatives = [(other.decode(), probability) for other, probability in others]
    except UnicodeDecodeError:
        return None
    # Their common prefix is certain.
    common = _common([text, *(other for other, _ in alternatives)]) if alternatives else 0
    if common == len(text) or any(common == len(other) for other, _ in alternatives):
        # One token is a prefix of the other, and the characters after it are unknown.
        alternatives, common = [], 0
    shown = tuple((other[common:], round(chance, 3)) for other, chance in alternatives if other[common:].isprintable())
    return UncertainPlace(len(before) + common, text[common:], round(math.exp(token.logprob), 3), shown)


def _common(texts: list[str]) -> int:
    """The length of the common prefix."""
    columns = zip(*texts, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda column: len(set(column)) == 1, columns))
