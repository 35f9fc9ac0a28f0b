"""Small pictures of a request's media. The app that decodes media makes them, in processes that may be killed."""

from __future__ import annotations

from collections.abc import Callable

#: pixels of the longer side
MAX_SIDE = 320

_make: Callable[[str, bytes, int], bytes] | None = None


class NoThumbnail(Exception):
    """The media cannot be decoded, or nothing here can decode it now."""


def made_by(make: Callable[[str, bytes, int], bytes]) -> None:
    """``make(kind, data, longest_side)`` gives a JPEG of an image, or of a video's first frame.

    It may block, and raises ``NoThumbnail``.
    """
    global _make
    _make = make


def make_thumbnail(kind: str, data: bytes) -> bytes:
    """A JPEG of ``MAX_SIDE`` pixels at most. Blocks until it is made; raises ``NoThumbnail``."""
    if _make is None:
        raise NoThumbnail
    return _make(kind, data, MAX_SIDE)
