"""What makes an API key easy to guess. It finds keys that a person typed, not all that a program could guess."""

from __future__ import annotations

import itertools
import re

MIN_CHARS = 20
#: fewer different characters than a random key of digits has
MIN_DIFFERENT_CHARS = 6
#: what is left without words and rows of keys must be as long as a random key that would do
MIN_OTHER_CHARS = 12
#: words that stand in examples and in keys made by hand, in English and Indonesian
_WORDS = re.compile(
    "password|passwort|sandi|secret|rahasia|change|replace|please|example|contoh|sample|sambung|server|public|private|"
    "default|insecure|random|string|letmein|welcome|openai|qwen|admin|tests?|demo|local|token|kunci|bearer|placeholder|"
    "apikey|api|keys?|your|here|this|long|very|text|xxx+|qwerty(uiop)?|asdfgh(jkl)?|sk|me|to|be|an?|my|is|it|the|of",
    re.IGNORECASE,
)
_NO_LETTERS_OR_DIGITS = re.compile(r"[\W_]+")


def weakness(key: str) -> str | None:
    """Why somebody might guess ``key``, as what is said of it; None when nothing speaks for that."""
    if len(key) < MIN_CHARS:
        return f"has {len(key)} characters, which is under {MIN_CHARS}"
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
