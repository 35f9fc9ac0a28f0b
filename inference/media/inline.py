"""Media sent inside the request: data URLs and bare base64."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote

from inference.errors import InvalidMedia

_WHITESPACE = b" \t\r\n\f\v"
_URL_SAFE_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


def decode_data_url(reference: str, *, limit: int, param: str) -> bytes:
    """The bytes of ``data:<media type>;base64,<payload>``; the media type is not trusted, so not read."""
    header, comma, payload = reference.partition(",")
    if not comma or not header.lower().rstrip().endswith(";base64"):
        raise InvalidMedia("A data URL must have the form data:<media type>;base64,<base64>.", param=param)
    # Some clients percent-encode the plus, slash and equals signs.
    return decode_base64(unquote(payload) if "%" in payload else payload, limit=limit, param=param)


def decode_base64(text: str, *, limit: int, param: str) -> bytes:
    """Decode base64 of the standard or the URL-safe alphabet; white space and missing padding are forgiven.

    Raises InvalidMedia where it is anything else, or stands for more than ``limit`` bytes (checked first).
    """
    try:
        packed = text.encode("ascii").translate(_URL_SAFE_TO_STANDARD, _WHITESPACE)
    except UnicodeEncodeError:
        raise _not_base64(param) from None
    digits = packed.rstrip(b"=")
    padding = len(packed) - len(digits)
    if len(digits) * 3 // 4 > limit:
        raise too_large(limit, param)
    if not digits:
        raise InvalidMedia("The base64 is empty.", param=param)
    if len(digits) % 4 == 1 or padding > 2:
        raise _not_base64(param)
    try:
        return base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    except binascii.Error:
        raise _not_base64(param) from None


def too_large(limit: int, param: str) -> InvalidMedia:
    """The refusal of media over ``limit`` bytes."""
    return InvalidMedia(f"The file is larger than the limit of {in_words(limit)}.", param=param)


def in_words(size: int) -> str:
    """A number of bytes as a person would say it."""
    return f"{size / 2**20:.4g} MiB" if size >= 2**20 else f"{size} bytes"


def _not_base64(param: str) -> InvalidMedia:
    return InvalidMedia(
        "This is not valid base64: it has a character outside the alphabet, or was cut off.", param=param
    )
