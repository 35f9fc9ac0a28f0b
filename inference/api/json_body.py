"""Reads JSON bodies of any size and from any client within limits, without delaying other requests.

``json.loads`` holds the interpreter lock from the first byte to the last. For a body of 64 MB that is 100 ms in which
no stream moves, whatever thread it runs in. So a body is read in pieces, and its values are counted
before any of them is created. Long strings without escapes, such as inline images and videos, stay the received bytes.
"""

from __future__ import annotations

import collections
import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.conf import settings

from inference.errors import InvalidRequest, TooLarge
from inference.media.inline import InlineText
from inference.media.parts import MEDIA_PARTS

PIECE_BYTES = 2**18
#: strings shorter than this are always parsed as text
MIN_INLINE_BYTES = 2**16
#: members that may contain an image or a video, as in the media parts
MEDIA_MEMBERS = {"url", *(member for _, members in MEDIA_PARTS.values() for member in members)}
#: maximum nesting; parts are four levels deep, and schemas of tools about twenty
MAX_DEPTH = 100

#: a string; its second quote is missing when it continues in the next piece
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+("?+)', re.DOTALL)
#: the part of a string in a piece: up to its closing quote, or to a backslash whose second half is in the next piece
_IN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
#: a quote that may open a long string
_LONG_STRETCH = re.compile(rb'"[^"]{%d}' % (MIN_INLINE_BYTES // 2))
_VALUE_MARKS = (b",", b"[", b"{")


def read_json(pieces: Iterable[bytes]) -> Any:
    """The value of the body, with an ``InlineText`` for each long string under a name of ``MEDIA_MEMBERS``.

    Raises InvalidRequest if it is not JSON, or exceeds ``MAX_REQUEST_VALUES`` or ``MAX_TEXT_BYTES``; TooLarge if it
    exceeds ``MAX_REQUEST_BYTES``.
    """
    scan = _Scan()
    for piece in _within_limit(pieces):
        scan.take(piece)
    text, inline = scan.finish()
    try:
        return _put_back(json.loads(text.decode("utf-8-sig")), inline)
    except (ValueError, RecursionError) as exc:
        raise _no_json(exc) from exc


class _Scan:
    """Finds the strings, counts the values, and takes the long strings out."""

    def __init__(self) -> None:
        #: the text for ``json.loads``
        self._text = bytearray()
        #: placeholder in the text for a string that was taken out; random, so that no request can contain it
        self._mark = secrets.token_hex(16)
        self._inline: dict[str, InlineText] = {}
        self._values = 0
        #: pieces of the string that is being read; None outside of strings
        self._string: list[bytes] | None = None
        self._rest = b""

    def take(self, piece: bytes) -> None:
        data = self._rest + piece
        self._rest = b""
        at = 0
        while at < len(data):
            at = self._outside(data, at) if self._string is None else self._inside(self._string, data, at)

    def _outside(self, data: bytes, at: int) -> int:
        """Take everything before the next long string, short strings included. Returns the position after it."""
        long = _LONG_STRETCH.search(data, at)
        end = len(data) if long is None else long.start()
        if end == at:
            self._string = []
            return at + 1
        stretch = data[at:end]
        opened = 0
        for last in collections.deque(_STRING.finditer(stretch), maxlen=1):
            if not last[1]:
                stretch = stretch[: last.start()]
                self._string = []
                opened = 1
        between, strings = _STRING.subn(b"", stretch)
        self._count(strings + sum(map(between.count, _VALUE_MARKS)))
        self._add(stretch)
        return at + len(stretch) + opened

    def _inside(self, string: list[bytes], data: bytes, at: int) -> int:
        match = _IN_STRING.match(data, at)
        end = match.end() if match is not None else at
        if end > at:
            string.append(data[at:end])
        if data[end : end + 1] == b"\\":
            self._rest = data[end:]
            return len(data)
        if end < len(data):
            self._close_string(string)
        return end + 1

    def finish(self) -> tuple[bytearray, dict[str, InlineText]]:
        if self._string is not None:
            raise InvalidRequest("The body is not JSON: it ends inside a text.", code="invalid_json")
        return self._text, self._inline

    def _close_string(self, string: list[bytes]) -> None:
        self._string = None
        self._count(1)
        if sum(map(len, string)) >= MIN_INLINE_BYTES:
            # Some JSON encoders escape slashes, also in base64.
            string = [piece.replace(b"\\/", b"/") if b"\\" in piece else piece for piece in string]
            if all(map(_is_plain, string)):
                name = f"{self._mark}{len(self._inline)}"
                self._inline[name] = InlineText(string)
                string = [name.encode()]
        self._add(b'"')
        for piece in string:
            self._add(piece)
        self._add(b'"')

    def _count(self, values: int) -> None:
        self._values += values
        if self._values > settings.MAX_REQUEST_VALUES:
            raise InvalidRequest(
                f"The request has more than {settings.MAX_REQUEST_VALUES} values; send less at once.",
                code="too_many_values",
            )

    def _add(self, data: bytes) -> None:
        if len(self._text) + len(data) > settings.MAX_TEXT_BYTES:
            raise _too_much_text()
        self._text += data


def _is_plain(piece: bytes) -> bool:
    return b"\\" not in piece and piece.isascii() and piece.decode("ascii").isprintable()


def _put_back(value: Any, inline: Mapping[str, InlineText]) -> Any:
    """``value`` with the strings that were taken out: as InlineText in ``MEDIA_MEMBERS``, otherwise as text."""
    text_bytes = 0

    def put(value: Any, name: str, depth: int) -> Any:
        nonlocal text_bytes
        if isinstance(value, str):
            if (found := inline.get(value)) is None:
                return value
            if name in MEDIA_MEMBERS:
                return found
            text_bytes += len(found)
            if text_bytes > settings.MAX_TEXT_BYTES:
                raise _too_much_text()
            return b"".join(found.pieces).decode("ascii")
        if isinstance(value, dict | list) and depth == MAX_DEPTH:
            raise RecursionError
        if isinstance(value, dict):
            return {put(key, "", depth): put(member, key, depth + 1) for key, member in value.items()}
        if isinstance(value, list):
            return [put(item, "", depth + 1) for item in value]
        return value

    return put(value, "", 0)


def _within_limit(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Enforce ``MAX_REQUEST_BYTES``. This project's server does so too, but another one may not."""
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > settings.MAX_REQUEST_BYTES:
            raise TooLarge(f"The request is larger than {settings.MAX_REQUEST_BYTES} bytes.")
        yield piece


def _no_json(exc: Exception) -> InvalidRequest:
    match exc:
        case UnicodeDecodeError():
            reason = "it is not UTF-8"
        case RecursionError():
            reason = "it is nested too deeply"
        case json.JSONDecodeError():
            reason = f"{exc.msg} at character {exc.pos}"
        case _:
            reason = "it has a number that is none, or too long"
    return InvalidRequest(f"The body is not JSON: {reason}.", code="invalid_json")


def _too_much_text() -> InvalidRequest:
    return InvalidRequest(
        f"The request has more than {settings.MAX_TEXT_BYTES} bytes of text; "
        "an image or a video inside the request must be base64 without escapes.",
        code="text_too_long",
    )
