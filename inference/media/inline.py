"""Media sent inside the request: data URLs and bare base64, decoded a megabyte at a time.

One call over all of it would keep the interpreter to itself: 50 ms for 20 MB, in which no stream moves.
"""

from __future__ import annotations

import base64
import binascii
import io
import itertools
from collections.abc import Iterable, Iterator
from urllib.parse import unquote_to_bytes

from inference.errors import InvalidMedia

PIECE_BYTES = 2**20
#: the part of a data URL before the comma
MAX_HEADER_CHARS = 1000

_WHITESPACE = b" \t\r\n\f\v"
_URL_SAFE_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


class InlineText:
    """A long text of a request as it came, which never becomes a ``str``: ASCII, in pieces of about a megabyte."""

    __slots__ = ("pieces",)

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def __len__(self) -> int:
        return sum(map(len, self.pieces))

    def __repr__(self) -> str:
        return f"<{len(self)} bytes inline>"

    def head(self, length: int) -> str:
        """The first ``length`` characters, as far as the first piece has them."""
        return self.pieces[0][:length].decode("ascii")


#: the types of a value that a request may have for an image or a video
Reference = str | InlineText


def decode_data_url(reference: Reference, *, limit: int, param: str) -> bytes:
    """The bytes of ``data:<media type>;base64,<payload>``; the media type is not trusted, so not read."""
    pieces = _pieces(reference, param)
    header, comma, rest = next(pieces, b"").partition(b",")
    if not comma or len(header) > MAX_HEADER_CHARS or not header.lower().rstrip().endswith(b";base64"):
        raise InvalidMedia("A data URL must have the form data:<media type>;base64,<base64>.", param=param)
    # Some clients percent-encode the plus, slash and equals signs.
    return _decode(_unquoted(itertools.chain([rest], pieces)), limit=limit, param=param)


def decode_base64(reference: Reference, *, limit: int, param: str) -> bytes:
    """Decode base64 of the standard or the URL-safe alphabet; white space and missing padding are forgiven.

    Raises InvalidMedia where it is anything else, or stands for more than ``limit`` bytes.
    """
    return _decode(_pieces(reference, param), limit=limit, param=param)


def _pieces(reference: Reference, param: str) -> Iterator[bytes]:
    if isinstance(reference, InlineText):
        return iter(reference.pieces)
    try:
        data = reference.encode("ascii")
    except UnicodeEncodeError:
        raise _not_base64(param) from None
    return (data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES))


def _unquoted(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces with ``%2B`` and the like decoded, even if such an escape is split between two pieces."""
    rest = b""
    for piece in pieces:
        data = rest + piece
        last = data.rfind(b"%", -2) if data else -1
        data, rest = (data[:last], data[last:]) if last >= 0 else (data, b"")
        yield unquote_to_bytes(data) if b"%" in data else data
    yield rest


def _decode(pieces: Iterable[bytes], *, limit: int, param: str) -> bytes:
    decoded = io.BytesIO()
    rest = b""
    padding = 0
    for piece in pieces:
        packed = rest + piece.translate(_URL_SAFE_TO_STANDARD, _WHITESPACE)
        digits = packed.rstrip(b"=")
        if padding and digits:
            raise _not_base64(param)
        padding += len(packed) - len(digits)
        # Four digits are three bytes; only the last may be fewer.
        whole = len(digits) if padding else len(digits) - len(digits) % 4
        rest = digits[whole:]
        _add(decoded, digits[:whole], limit, param)
    _add(decoded, rest, limit, param)
    if not decoded.tell():
        raise InvalidMedia("The base64 is empty.", param=param)
    if padding > 2:
        raise _not_base64(param)
    return decoded.getvalue()


def _add(decoded: io.BytesIO, digits: bytes, limit: int, param: str) -> None:
    if decoded.tell() + len(digits) * 3 // 4 > limit:
        raise too_large(limit, param)
    if len(digits) % 4 == 1:
        raise _not_base64(param)
    try:
        decoded.write(base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True))
    except binascii.Error:
        raise _not_base64(param) from None


def too_large(limit: int, param: str) -> InvalidMedia:
    """The refusal of media over ``limit`` bytes."""
    return InvalidMedia(f"The file is larger than the limit of {in_words(limit)}.", param=param)


def in_words(size: int) -> str:
    """A byte count in readable form."""
    return f"{size / 2**20:.4g} MiB" if size >= 2**20 else f"{size} bytes"


def _not_base64(param: str) -> InvalidMedia:
    return InvalidMedia(
        "This is not valid base64: it has a character outside the alphabet, or was cut off.", param=param
    )
