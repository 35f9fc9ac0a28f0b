"""Finds keys and secrets that are easy to guess: those that a person typed, not all that a program could guess."""

from __future__ import annotations

import itertools
import re

MIN_CHARS = 20
#: minimum number of different characters; a random key of digits has more
MIN_DIFFERENT_CHARS = 6
#: minimum length without words and runs of characters, that of a sufficient random key
MIN_OTHER_CHARS = 12
#: words in example keys and in keys made by hand, in English and Indonesian
_WORDS = re.compile(
    "password|passwort|sandi|secret|rahasia|change|replace|please|example|contoh|sample|sambung|server|public|private|"
    "default|insecure|random|string|letmein|welcome|openai|qwen|admin|tests?|demo|local|token|kunci|bearer|placeholder|"
    "apikey|api|keys?|your|here|this|long|very|text|xxx+|qwerty(uiop)?|asdfgh(jkl)?|sk|me|to|be|an?|my|is|it|the|of",
    re.IGNORECASE,
)
_NO_LETTERS_OR_DIGITS = re.compile(r"[\W_]+")


def weakness(key: str, *, min_chars: int = MIN_CHARS) -> str | None:
    """Why ``key`` is easy to guess, as a predicate for a message; None if it does not seem to be."""
    if len(key) < min_chars:
        return f"has {len(key)} characters, which is under {min_chars}"
    if len(set(key)) < MIN_DIFFERENT_CHARS:
        return f"has only {len(set(key))} different characters"
    if key in (key + key)[1:-1]:
        return "repeats itself"
    if _runs(key) > len(key) / 2:
        return "is a row of neighbouring characters"
    if len(_NO_LETTERS_OR_DIGITS.sub("", _WORDS.sub("", key))) < MIN_OTHER_CHARS:
        return "is made of common words"
    return None


def _runs(key: str) -> int:
    """Characters that follow the two before as in abc, 321 or 777."""
    steps = [ord(after) - ord(before) for before, after in itertools.pairwise(key)]
    return sum(step in (-1, 0, 1) and step == before for before, step in itertools.pairwise(steps))
