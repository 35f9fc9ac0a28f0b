"""A PNG's filtered rows, decompressed in groups, so that no more than a group is ever in memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from inference.media.formats import png
from inference.media.formats.bare import BareImage, Unreadable

#: colour type in the header → values per pixel
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
#: rows are filtered in one of five ways; the number comes before each row
HIGHEST_FILTER = 4
#: bytes of a group that is only checked
GROUP_BYTES = 2**20


def row_bytes(file: BareImage) -> int | None:
    """Bytes of a row, the number of its filter included; None where rows do not follow each other (interlaced)."""
    depth, colour, *_, interlaced = file.data[24:29]
    if interlaced or colour not in CHANNELS:
        return None
    return 1 + (file.width * CHANNELS[colour] * depth + 7) // 8


def groups(file: BareImage, bytes_of_row: int, rows: int) -> Iterator[bytes]:
    """All rows from the top, in groups. Raises Unreadable or zlib.error if they are cut off or damaged."""
    left = file.height
    group = bytearray()
    inflate = zlib.decompressobj()
    for content in (content for kind, content, _ in png.chunks(file.data) if kind == b"IDAT"):
        while content and left:
            wanted = min(rows, left) * bytes_of_row
            group += inflate.decompress(content, wanted - len(group))
            content = inflate.unconsumed_tail
            if len(group) == wanted:
                yield bytes(group)
                left -= min(rows, left)
                group.clear()
    if left:
        raise Unreadable


def check(file: BareImage, bytes_of_row: int) -> None:
    """Check the rows completely without decoding them to pixels. Raises the same errors as ``groups``."""
    for group in groups(file, bytes_of_row, max(1, GROUP_BYTES // bytes_of_row)):
        if max(group[::bytes_of_row]) > HIGHEST_FILTER:
            raise Unreadable
