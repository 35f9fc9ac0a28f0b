"""How sure the model was of each value: the probability of its least likely token.

A reader that meets a smudged digit writes one all the same. What it had to choose from shows in the probabilities, and
one doubtful character makes the whole value doubtful, so the least counts and not the mean.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ocr.problems import Problem
from ocr.schema import FIELDS

#: a string member of the contract's object, whichever object it stands in: no key comes twice
_PATHS = {field.path.rpartition(".")[2].encode(): field.path for field in FIELDS}
_MEMBER = re.compile(rb'"(' + b"|".join(_PATHS) + rb')"\s*:\s*"((?:[^"\\]|\\.)*)"')


class Token(NamedTuple):
    """One token of the answer, in order."""

    #: b"" for a token that is never text
    raw: bytes
    #: natural logarithm of its probability
    logprob: float


def stored_tokens(logprobs: Iterable[Mapping[str, Any]]) -> list[Token]:
    """Of the log probabilities in a session's deltas."""
    return [Token(bytes(entry["bytes"] or ()), entry["logprob"]) for entry in logprobs]


def least_probabilities(tokens: Iterable[Token]) -> dict[str, float]:
    """By path of ``FIELDS``: the probability of the least likely token in the value, its closing quote included.

    Only members spelled as the contract has them are found. One that comes several times has the least of all.
    """
    text, ends, logprobs = bytearray(), [], []
    for token in tokens:
        text += token.raw
        ends.append(len(text))
        logprobs.append(token.logprob)
    least: dict[str, float] = {}
    for member in _MEMBER.finditer(bytes(text)):
        path = _PATHS[member[1]]
        begin, end = member.start(2), member.end()
        touching = (
            logprob
            for start, stop, logprob in zip([0, *ends], ends, logprobs, strict=False)
            if stop > begin and start < end
        )
        least[path] = min(least.get(path, 1.0), math.exp(min(touching)))
    return least


def check(values: Mapping[str, str], tokens: Iterable[Token], *, below: float) -> list[Problem]:
    """A flag for each value with a token that was less probable than ``below``. What is empty is flagged elsewhere."""
    return [
        Problem(path, "uncertain")
        for path, probability in least_probabilities(tokens).items()
        if values[path] and probability < below
    ]
