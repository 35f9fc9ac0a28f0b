"""Lenient JSON parser for truncated or malformed model output.

In addition to JSON it accepts trailing and missing commas, single quotes, unquoted words, Python's None/True/False, raw
newlines in strings, and text that ends anywhere. A value that is cut off by the end of the text becomes ``CUT``, so it
is never mistaken for a whole one. Nothing here raises.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

#: maximum nesting depth
MAX_DEPTH: Final = 8

_WHITESPACE: Final = " \t\r\n\f\v\u00a0\ufeff"
_ESCAPES: Final = {'"': '"', "'": "'", "\\": "\\", "/": "/", "b": " ", "f": " ", "n": "\n", "r": "\n", "t": "\t"}
_HEX4: Final = re.compile(r"[0-9a-fA-F]{4}")
_WORDS: Final = {"null": None, "none": None, "true": True, "false": False}
# The text after a line break that shows that the string before it lacks its closing quote.
_NEXT_MEMBER: Final = re.compile(r"""\s{0,80}(?:["'][^"'\r\n:]{1,40}["']\s*:|[}\]])""")


class _Cut:
    """The type of ``CUT``."""

    def __repr__(self) -> str:
        return "CUT"


#: a value that was cut off by the end of the text
CUT: Final = _Cut()


def read_object(text: str, start: int) -> tuple[dict[str, Any], int, bool]:
    """Parse the object whose brace is at ``start``. Returns its members, its end, and whether it was closed.

    Numbers are kept as text, because an identity number must keep its digits. A repeated key keeps its last value, as
    in JSON.
    """
    reader = _Reader(text, start)
    value = reader.object(depth=0)
    return value, reader.at, not reader.cut


class _Reader:
    def __init__(self, text: str, at: int) -> None:
        self.text = text
        self.at = at
        #: whether the text ended before the outermost object
        self.cut = False

    def _peek(self) -> str:
        while self.at < len(self.text) and self.text[self.at] in _WHITESPACE:
            self.at += 1
        return self.text[self.at] if self.at < len(self.text) else ""

    def object(self, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        self.at += 1
        while True:
            char = self._peek()
            if not char:
                self.cut = True
                return members
            if char == "}":
                self.at += 1
                return members
            if char in ",]":
                self.at += 1
                continue
            key = self._scalar(stops=":,}")
            if self._peek() != ":":
                # A key without a value is left out.
                continue
            self.at += 1
            members[str(key)] = self._value(depth)

    def _array(self, depth: int) -> list[Any]:
        items: list[Any] = []
        self.at += 1
        while True:
            char = self._peek()
            if not char:
                self.cut = True
                return items
            if char == "]":
                self.at += 1
                return items
            if char == "}":
                # The bracket is missing: the brace belongs to the enclosing object.
                return items
            if char in ",:":
                self.at += 1
                continue
            items.append(self._value(depth))

    def _value(self, depth: int) -> Any:
        char = self._peek()
        if not char:
            self.cut = True
            return CUT
        if char in ",}]":
            return None
        if char in "{[" and depth >= MAX_DEPTH:
            self.at = len(self.text)
            self.cut = True
            return CUT
        if char == "{":
            return self.object(depth + 1)
        if char == "[":
            return self._array(depth + 1)
        return self._scalar(stops=",}]")

    def _scalar(self, stops: str) -> Any:
        char = self.text[self.at]
        return self._string(char) if char in "\"'" else self._bare(stops)

    def _string(self, quote: str) -> Any:
        parts: list[str] = []
        self.at += 1
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "\\":
                parts.append(self._escape())
                continue
            if char == quote and self._closes():
                self.at += 1
                return _join_surrogates("".join(parts))
            if char == "\n" and _NEXT_MEMBER.match(self.text, self.at):
                return _join_surrogates("".join(parts)).rstrip(", \t\r")
            parts.append(char)
            self.at += 1
        self.cut = True
        return CUT

    def _closes(self) -> bool:
        """Whether this quote ends its string; otherwise it is a quote that the model did not escape."""
        ahead = self.text[self.at + 1 : self.at + 200].lstrip(_WHITESPACE)
        return not ahead or ahead[0] in ",:}]\"'"

    def _escape(self) -> str:
        code = self.text[self.at + 1 : self.at + 2]
        if code == "u" and (digits := _HEX4.match(self.text, self.at + 2)):
            self.at += 6
            return chr(int(digits[0], 16))
        self.at += 2
        return _ESCAPES.get(code, code)

    def _bare(self, stops: str) -> Any:
        """A number or an unquoted word, up to one of ``stops`` or the end of the line."""
        begin = self.at
        while self.at < len(self.text) and self.text[self.at] not in stops and self.text[self.at] not in "\r\n":
            self.at += 1
        word = self.text[begin : self.at].strip(_WHITESPACE)
        if self.at == len(self.text):
            self.cut = True
            return CUT
        if self.at == begin:
            self.at += 1
        return _WORDS.get(word.lower(), word)


def _join_surrogates(text: str) -> str:
    """Combine surrogate pairs into one character. A lone surrogate, which no database stores, becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def read_strict(text: str, start: int) -> tuple[Any, int] | None:
    """The JSON value at ``start`` and its end, or None if the text is not JSON. Numbers stay text."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return value, end


_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
