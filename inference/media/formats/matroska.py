"""The elements of a Matroska or WebM file, as far as they must be read to find the metadata."""

from __future__ import annotations

from collections.abc import Iterator

from inference.media.formats.bare import Unreadable

SEGMENT, INFO, TRACKS, TRACK, CLUSTER = 0x18538067, 0x1549A966, 0x1654AE6B, 0xAE, 0x1F43B675
#: elements whose children are read
PARENTS = {SEGMENT, INFO, TRACKS, TRACK}
#: tags, attached files, chapters; of the information the time of making, the title and names of files; a track's name
METADATA = {0x1254C367, 0x1941A469, 0x1043A770, 0x4461, 0x7BA9, 0x7384, 0x3C83AB, 0x3E83BB, 0x536E}
#: maximum elements that are read; clusters of known length count as one each
MAX_ELEMENTS = 400_000


def metadata(data: bytes) -> Iterator[tuple[int, int]]:
    """[start, end) of each element with metadata. Raises Unreadable where there are too many elements."""
    at, seen = 0, 0
    while at < len(data):
        seen += 1
        if seen > MAX_ELEMENTS:
            raise Unreadable
        found = _element(data, at)
        if found is None:
            return
        kind, content_at, size = found
        if kind in PARENTS or (kind == CLUSTER and size is None):
            # Go on inside: where it ends need not be known, as the elements in it have other numbers than those around.
            at = content_at
        elif size is None:
            return
        else:
            end = content_at + size
            if kind in METADATA and end <= len(data):
                yield at, end
            at = end


def _element(data: bytes, at: int) -> tuple[int, int, int | None] | None:
    """(number, where the content begins, its length if it is known); None where there is no element."""
    width = 9 - data[at].bit_length() if data[at] else 9
    size_at = at + width
    if width > 4 or size_at >= len(data) or not data[size_at]:
        return None
    size = size_of(data, size_at)
    kind = int.from_bytes(data[at:size_at])
    size_width = 9 - data[size_at].bit_length()
    return kind, size_at + size_width, None if size is None else size[1]


def size_of(data: bytes, at: int) -> tuple[int, int] | None:
    """(where the content begins, its length) from the variable-length size at ``at``; None for "unknown"."""
    if at >= len(data) or data[at] == 0:
        return None
    width = 9 - data[at].bit_length()
    size = int.from_bytes(data[at : at + width]) & ~(1 << (7 * width))
    return None if size == (1 << (7 * width)) - 1 else (at + width, size)
