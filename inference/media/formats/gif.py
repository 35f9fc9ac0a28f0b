"""GIF: the screen, and the first frame with the extension that names its transparent colour."""

from __future__ import annotations

from inference.media.formats.bare import BareImage, Unreadable

EXTENSION, FRAME, TRAILER = 0x21, 0x2C, 0x3B
GRAPHIC_CONTROL = 0xF9
#: of the packed fields: a colour table follows, and the power of two that is its length
HAS_TABLE, TABLE_SIZE = 0x80, 0x07
HEADER = 13


def bare(data: bytes) -> BareImage:
    """The first frame on its screen, without comments and applications' blocks.

    Raises Unreadable where the file ends before the frame has begun.
    """
    at = HEADER + _table_bytes(data, 10)
    head = data[:at]
    control = b""
    while at < len(data):
        if data[at] == FRAME:
            start = at
            at += 10 + _table_bytes(data, at + 9)
            end = _end_of_blocks(data, at + 1)
            # A frame that is larger than the screen, or beside it, makes it larger.
            left, top, *extent = (int.from_bytes(data[n : n + 2], "little") for n in range(start + 1, start + 9, 2))
            width, height = (int.from_bytes(data[n : n + 2], "little") for n in (6, 8))
            width, height = max(width, left + extent[0]), max(height, top + extent[1])
            return BareImage(head + control + data[start:end] + bytes([TRAILER]), width, height)
        if data[at] == TRAILER:
            break
        if data[at] != EXTENSION:
            # Pillow and browsers skip unknown data byte by byte.
            at += 1
            continue
        end = _end_of_blocks(data, at + 2)
        if data[at + 1 : at + 2] == bytes([GRAPHIC_CONTROL]):
            control += data[at:end]
        at = end
    raise Unreadable


def size(data: bytes) -> tuple[int, int]:
    """(width, height) of the screen; a frame may be larger. Raises Unreadable."""
    if len(data) < HEADER:
        raise Unreadable
    return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")


def _table_bytes(data: bytes, at: int) -> int:
    if at >= len(data):
        raise Unreadable
    return 3 << (data[at] & TABLE_SIZE) + 1 if data[at] & HAS_TABLE else 0


def _end_of_blocks(data: bytes, at: int) -> int:
    """The offset after the empty block that ends a run of blocks; the end of the file if there is none."""
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return min(at + 1, len(data))
