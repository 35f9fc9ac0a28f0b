"""Validation of chunks: every delta passes ``storable_delta`` before it is written.

The output of a model or of another server is not trusted. PostgreSQL refuses U+0000 and halves of surrogate pairs in
JSON; SQLite keeps them, and no stream can be encoded from then on. JSON has no infinity. A count must fit its column.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sessions_app.deltas import TextKind

REPLACEMENT = "\ufffd"
#: maximum of PostgreSQL's integer columns
MAX_COUNT = 2**31 - 1
#: maximum length of each text in an error
MAX_ERROR_CHARS = 2000
#: the log probability of a token that the model rules out, as OpenAI and vLLM have it
MIN_LOGPROB = -9999.0
#: replaces a token id that is not known, so that the tokens of a session can be counted
UNKNOWN_TOKEN = -1

_FIRST_HALVES = ("\ud800", "\udbff")


def storable_text(text: str) -> str:
    """``text`` with the halves of each surrogate pair joined, and U+FFFD for NUL and for a single half."""
    if "\0" in text:
        text = text.replace("\0", REPLACEMENT)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def storable_logprob(value: Any) -> float:
    """``value`` if it can be the logarithm of a probability, else ``MIN_LOGPROB``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return MIN_LOGPROB
    # Rounding puts some a little above 0.
    return float(value) if MIN_LOGPROB <= value <= 1 else MIN_LOGPROB


def storable_bytes(value: Any) -> list[int] | None:
    """``value`` if it is a list of bytes, else None, which means a token that is no text."""
    if not isinstance(value, list | bytes):
        return None
    try:
        return list(bytes(value))
    except (TypeError, ValueError):
        return None


def storable_count(value: Any) -> int | None:
    """``value`` if it is a whole number that a column can hold, from 0 on, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value <= MAX_COUNT and value == int(value) else None


def storable_token_ids(token_ids: Iterable[int]) -> list[int]:
    return [token_id if 0 <= token_id <= MAX_COUNT else UNKNOWN_TOKEN for token_id in token_ids]


def storable_error(error: Mapping[str, Any]) -> dict[str, Any]:
    """An error object whose texts are storable and not longer than ``MAX_ERROR_CHARS``."""
    return {
        name: storable_text(value[:MAX_ERROR_CHARS]) if isinstance(value, str) else value
        for name, value in error.items()
    }


def storable_delta(delta: Mapping[str, Any]) -> Any:
    """``delta`` as it may be written: of a model's, with or without logprobs, or an error."""
    cleaned = dict(delta)
    for name in ("text", "name", "arguments"):
        if name in cleaned:
            cleaned[name] = storable_text(cleaned[name])
    if "logprobs" in cleaned:
        cleaned["logprobs"] = [
            _likelihood(entry) | {"top": [_likelihood(other) for other in entry.get("top", ())]}
            for entry in cleaned["logprobs"]
        ]
    if "error" in cleaned:
        cleaned["error"] = storable_error(cleaned["error"])
    return cleaned


def _likelihood(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "token": storable_text(entry["token"]),
        "bytes": storable_bytes(entry["bytes"]),
        "logprob": storable_logprob(entry["logprob"]),
    }


class WholeCharacters:
    """Joins the halves of characters that are cut between two pieces of one answer.

    A piece that ends with the first half of a surrogate pair is held back until the next piece of its kind. When it was
    the last, or one of another kind follows, the half becomes U+FFFD. The output never depends on later pieces,
    so a reader that starts again from the beginning of the answer gets the same.
    """

    def __init__(self) -> None:
        self._kind: TextKind = "text"
        self._held = ""

    @property
    def is_holding(self) -> bool:
        return bool(self._held)

    def add(self, kind: TextKind, text: str) -> list[tuple[TextKind, str]]:
        """The pieces that are certain now, as (kind, storable text)."""
        if not self._held and (text.isascii() or not _is_cut(text)):
            return [(kind, storable_text(text))] if text else []
        if not text:
            return []
        certain = self.turn_to(kind)
        held, self._held = self._held, ""
        text = held + text
        if _is_cut(text):
            # The whole piece, so that it stays with its tokens. But pieces that are all cut must not pile up.
            text, self._held = (text[:-1], text[-1]) if held else ("", text)
            self._kind = kind
        if text:
            certain.append((kind, storable_text(text)))
        return certain

    def turn_to(self, kind: TextKind) -> list[tuple[TextKind, str]]:
        """What was held back, when a piece of another kind follows."""
        return self.end() if kind != self._kind else []

    def end(self) -> list[tuple[TextKind, str]]:
        """What was held back, when nothing follows."""
        held, self._held = self._held, ""
        return [(self._kind, storable_text(held))] if held else []


def _is_cut(text: str) -> bool:
    first, last = _FIRST_HALVES
    return first <= text[-1:] <= last
