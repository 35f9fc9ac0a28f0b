"""TIFF: the tags that describe the pixels of the first picture; the others are taken out and their values wiped."""

from __future__ import annotations

import struct
from bisect import bisect_left
from dataclasses import dataclass, field

from inference.media.formats.bare import UPRIGHT, BareImage, Unreadable
from inference.media.formats.exif import INTEGER_TYPES, ORIENTATION_TAG, orientation_in

WIDTH, HEIGHT = 256, 257
#: size, sample layout, compression, colours and where the pixels lie, baseline tags and those of the supplements
PIXEL_TAGS = {
    *(254, WIDTH, HEIGHT, 258, 259, 262, 266, ORIENTATION_TAG, 277, 284, 292, 293, 301, 317, 320),
    *(273, 278, 279, 322, 323, 324, 325),
    *(332, 338, 339, 347, *range(512, 522), *range(529, 533)),
}
#: where pixels begin → how long they are
PLACES = {273: 279, 324: 325}
#: tags whose value is where another directory begins: EXIF's, GPS's, that of interoperability, thumbnails
DIRECTORY_TAGS = {34665, 34853, 40965, 330}
XMP_TAG = 700
#: type → bytes of one value
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
#: the magic number and where the first directory is
HEADER_BYTES = 8
#: maximum directories that are wiped
MAX_DIRECTORIES = 100


@dataclass(frozen=True, slots=True)
class _Entry:
    tag: int
    kind: int
    count: int
    #: the entry itself
    raw: bytes
    #: where its value lies
    start: int
    end: int


@dataclass
class _File:
    data: bytearray
    order: str
    is_big: bool
    #: ranges of the pixels and of what describes them; never wiped
    needed: list[tuple[int, int]] = field(default_factory=list)

    @property
    def entry_bytes(self) -> int:
        return 20 if self.is_big else 12

    def number(self, at: int, size: int) -> int:
        """An unsigned number. Raises Unreadable if it is beyond the end."""
        if at + size > len(self.data):
            raise Unreadable
        return int.from_bytes(self.data[at : at + size], "little" if self.order == "<" else "big")

    @property
    def first_directory(self) -> int:
        """Where it begins."""
        return self.number(8, 8) if self.is_big else self.number(4, 4)

    def entries(self, at: int, most: int = 2**16) -> list[_Entry]:
        """Those of the directory at ``at`` whose type is known, ``most`` of them."""
        field_bytes, count_bytes = (8, 8) if self.is_big else (4, 2)
        found: list[_Entry] = []
        count = min(self.number(at, count_bytes), len(self.data) // self.entry_bytes, most)
        for n in range(count):
            place = at + count_bytes + n * self.entry_bytes
            tag, kind, values = self.number(place, 2), self.number(place + 2, 2), self.number(place + 4, field_bytes)
            start = place + 4 + field_bytes
            length = values * TYPE_BYTES.get(kind, 0)
            if length > field_bytes:
                start = self.number(start, field_bytes)
            raw = bytes(self.data[place : place + self.entry_bytes])
            if length:
                found.append(_Entry(tag, kind, values, raw, start, start + length))
        return found

    def values(self, entry: _Entry | None) -> list[int]:
        """An entry's whole numbers; none where it holds others, or lies outside the file."""
        if entry is None or entry.end > len(self.data) or entry.kind not in (*INTEGER_TYPES, 13, 16, 18):
            return []
        letter = INTEGER_TYPES.get(entry.kind, "L" if entry.kind == 13 else "Q")
        return list(struct.unpack_from(f"{self.order}{entry.count}{letter}", self.data, entry.start))


def bare(data: bytes) -> BareImage:
    """The first picture with its other tags wiped. Raises Unreadable without a readable directory."""
    file = _opened(data)
    first = file.first_directory
    entries = file.entries(first)
    kept = {entry.tag: entry for entry in reversed(entries) if entry.tag in PIXEL_TAGS}
    width, height = _size(file, kept)
    turns = file.values(kept.get(ORIENTATION_TAG))
    orientation = turns[0] if turns and 1 <= turns[0] <= 8 else UPRIGHT
    if ORIENTATION_TAG not in kept:
        found = [bytes(file.data[entry.start : entry.end]) for entry in entries if entry.tag == XMP_TAG]
        orientation = orientation_in(None, found[0] if found else None)
    file.needed = [(0, HEADER_BYTES), *((entry.start, entry.end) for entry in kept.values())]
    for where, how_long in PLACES.items():
        starts, lengths = file.values(kept.get(where)), file.values(kept.get(how_long))
        file.needed += [(start, start + length) for start, length in zip(starts, lengths, strict=False)]
    file.needed = _merged(file.needed)
    _wipe(file, first)
    raws = {tag: entry.raw for tag, entry in kept.items()}
    if orientation != UPRIGHT and ORIENTATION_TAG not in kept and len(raws) < len(entries):
        raws[ORIENTATION_TAG] = _orientation_entry(file, orientation)
    _write_directory(file, first, [raws[tag] for tag in sorted(raws)])
    return BareImage(bytes(file.data), width, height, orientation)


def size(data: bytes) -> tuple[int, int]:
    """(width, height) of the first picture. Raises Unreadable where its directory does not begin with it."""
    # The tags are in order, and these two are among the first.
    file = _opened(data)
    entries = file.entries(file.first_directory, most=100)
    return _size(file, {entry.tag: entry for entry in reversed(entries)})


def _opened(data: bytes) -> _File:
    return _File(bytearray(data), "<" if data[:2] == b"II" else ">", is_big=43 in data[2:4])


def _size(file: _File, entries: dict[int, _Entry]) -> tuple[int, int]:
    width, height = (file.values(entries.get(tag)) for tag in (WIDTH, HEIGHT))
    if not width or not height:
        raise Unreadable
    return width[0], height[0]


def _merged(stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """In order, and those that touch as one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(stretches):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _orientation_entry(file: _File, orientation: int) -> bytes:
    layout = "HHQH6x" if file.is_big else "HHLHH"
    values = (ORIENTATION_TAG, 3, 1, orientation) if file.is_big else (ORIENTATION_TAG, 3, 1, orientation, 0)
    return struct.pack(file.order + layout, *values)


def _write_directory(file: _File, at: int, raws: list[bytes]) -> None:
    """Where the old one stood, which had at least as many entries; no other directory follows."""
    content = struct.pack(file.order + ("Q" if file.is_big else "H"), len(raws)) + b"".join(raws)
    content += bytes(8 if file.is_big else 4)
    file.data[at : at + len(content)] = content


def _wipe(file: _File, first: int) -> None:
    """Zero what the directory says beside the pixels, in the directories that it leads to too."""
    ahead, seen = [first], set[int]()
    while ahead and len(seen) < MAX_DIRECTORIES:
        at = ahead.pop()
        if at == 0 or at in seen:
            continue
        seen.add(at)
        try:
            entries = file.entries(at)
            count_bytes, place_bytes = (8, 8) if file.is_big else (2, 4)
            after = at + count_bytes + file.number(at, count_bytes) * file.entry_bytes
            ahead.append(file.number(after, place_bytes))
        except Unreadable:
            continue
        for entry in entries:
            if entry.tag in DIRECTORY_TAGS:
                ahead += file.values(entry)[:MAX_DIRECTORIES]
            if entry.tag not in PIXEL_TAGS or at != first:
                _zero(file, entry.start, min(entry.end, len(file.data)))


def _zero(file: _File, start: int, end: int) -> None:
    """But for what pixels need."""
    nearest = bisect_left(file.needed, (end, 0))
    if nearest and file.needed[nearest - 1][1] > start:
        return
    file.data[start:end] = bytes(max(0, end - start))
