"""How sure the model was of each value: the probability of its least likely token.

A model still writes a digit where one is smudged. The probabilities show its alternatives. One uncertain character
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
    #: the alternatives that the model considered, as far as they were requested
    others: tuple[tuple[bytes, float], ...] = ()


class Member(NamedTuple):
    """One value of the answer and the tokens that wrote it, its closing quote included."""

    path: str
    #: the bytes in the JSON
    raw: bytes
    #: each with the offset of its first byte from the beginning of the value
    tokens: list[tuple[int, Token]]

    @property
    def least(self) -> float:
        """The probability of its least likely token."""
        return math.exp(min(token.logprob for _, token in self.tokens))


def stored_tokens(logprobs: Iterable[Mapping[str, Any]]) -> list[Token]:
    """The tokens of the log probabilities in a session's deltas."""
    return [
        Token(
            bytes(entry["bytes"] or ()),
            entry["logprob"],
            tuple((bytes(other["bytes"] or ()), other["logprob"]) for other in entry.get("top") or ()),
        )
        for entry in logprobs
    ]


def members(tokens: Iterable[Token]) -> list[Member]:
    """Every value of the answer that belongs to a path of ``FIELDS``, in order.

    Only members spelled as the contract has them are found.
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
    """By path of ``FIELDS``: the probability of the least likely token in the value.

    A member that comes several times has the least of all.
    """
    least: dict[str, float] = {}
    for member in members(tokens):
        least[member.path] = min(least.get(member.path, 1.0), member.least)
    return least


def check(values: Mapping[str, str], tokens: Iterable[Token], *, below: float) -> list[Problem]:
    """A flag for each value with a token that was less probable than ``below``. What is empty is flagged elsewhere."""
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
    """The uncertain places in ``value``; none unless it is exactly the value of one member of the answer."""
    if len(written) != 1 or written[0].raw != value.encode():
        return ()
    raw = written[0].raw
    places = []
    for at, token in written[0].tokens:
        if math.exp(token.logprob) < below and (place := _place(raw, at, token)) is not None:
            places.append(place)
    return tuple(places)


def _place(raw: bytes, at: int, token: Token) -> UncertainPlace | None:
    """The part of the value that the token wrote; None where that is not a whole number of characters."""
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
        told = [(other.decode(), probability) for other, probability in others]
    except UnicodeDecodeError:
        return None
    # Their common prefix is certain.
    common = _common([text, *(other for other, _ in told)]) if told else 0
    if common == len(text) or any(common == len(other) for other, _ in told):
        # One is a prefix of the other, and what would follow it is not known.
        told, common = [], 0
    shown = tuple((other[common:], round(chance, 3)) for other, chance in told if other[common:].isprintable())
    return UncertainPlace(len(before) + common, text[common:], round(math.exp(token.logprob), 3), shown)


def _common(texts: list[str]) -> int:
    """How many characters all of them begin with."""
    columns = zip(*texts, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda column: len(set(column)) == 1, columns))
