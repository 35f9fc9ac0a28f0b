"""BMP: it has no metadata that decoders read, so the file is kept as it is."""

from __future__ import annotations

from inference.media.formats.bare import BareImage, Unreadable


def bare(data: bytes) -> BareImage:
    """The file itself. Raises Unreadable without a header."""
    return BareImage(data, *size(data))


def size(data: bytes) -> tuple[int, int]:
    """(width, height). Raises Unreadable without a header."""
    if len(data) < 26:
        raise Unreadable
    if int.from_bytes(data[14:18], "little") == 12:
        width, height = (int.from_bytes(data[n : n + 2], "little") for n in (18, 20))
    else:
        width, height = (int.from_bytes(data[n : n + 4], "little", signed=True) for n in (18, 22))
    # A negative height says that the first row is the upper one.
    return width, abs(height)
