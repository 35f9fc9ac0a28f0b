"""HEIF, as phones write it (HEIC) and as AVIF: which item is the picture, where its bytes lie, how it is turned."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from inference.media.formats.bare import BareImage, Unreadable

AVIF_BRANDS = {b"avif", b"avis"}
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
#: type of the first box, which lists the brands
MAX_BRAND_BYTES = 256
#: boxes of one level; of all items together their pieces, properties and parts. A picture of 200 megapixels has some
#: thousand tiles with five properties each
MAX_BOXES, MAX_ENTRIES = 3_000, 10_000
#: boxes of the file that decoders need
PIXEL_BOXES = {b"ftyp", b"meta", b"mdat", b"moov"}
#: types of items that are metadata, not pictures
METADATA_ITEMS = {b"Exif", b"mime", b"uri "}
#: axis of the flip (none, top to bottom, left to right) → EXIF's number for each count of quarter turns to the left
TURNS = {None: (1, 8, 3, 6), 0: (4, 5, 2, 7), 1: (2, 7, 4, 5)}


@dataclass(frozen=True, slots=True)
class Property:
    """A property of items: their size, their turn, or the configuration of their decoder."""

    kind: bytes
    content: bytes


@dataclass(slots=True)
class Item:
    """A picture, a tile of one, or a piece of metadata."""

    kind: bytes = b""
    #: where the entry that names its kind has it
    kind_at: int = 0
    #: (start, end) in the file
    extents: list[tuple[int, int]] = field(default_factory=list)
    properties: list[Property] = field(default_factory=list)
    #: the items that it is put together from
    parts: list[int] = field(default_factory=list)

    def said(self, kind: bytes) -> bytes | None:
        return next((found.content for found in self.properties if found.kind == kind), None)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) before any turn. Raises Unreadable."""
        content = self.said(b"ispe")
        if content is None or len(content) < 12:
            raise Unreadable
        width, height = struct.unpack_from(">LL", content, 4)
        return width, height

    @property
    def shown(self) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of what is to be seen: encoders fill up small pictures. Raises Unreadable."""
        width, height = self.size
        clap = self.said(b"clap")
        if clap is None:
            return 0, 0, width, height
        try:
            numbers = struct.unpack_from(">LLLLlLlL", clap)
            across, down, right, low = (Fraction(*numbers[n : n + 2]) for n in range(0, 8, 2))
        except (struct.error, ZeroDivisionError):
            raise Unreadable from None
        left, top = round((width - across) / 2 + right), round((height - down) / 2 + low)
        box = left, top, left + int(across), top + int(down)
        if not (0 <= left < box[2] <= width and 0 <= top < box[3] <= height):
            raise Unreadable
        return box

    @property
    def orientation(self) -> int:
        """EXIF's number for the turn and the flip that the file asks for."""
        turn, flip = self.said(b"irot"), self.said(b"imir")
        return TURNS[flip[0] & 1 if flip else None][turn[0] & 3 if turn else 0]


@dataclass(slots=True)
class HeifFile:
    """The items of a file."""

    data: bytes
    items: dict[int, Item] = field(default_factory=dict)
    primary: int = 0
    #: where each box of the file begins and ends, with its kind
    boxes: list[tuple[bytes, int, int]] = field(default_factory=list)

    @property
    def picture(self) -> Item:
        """Raises Unreadable where the file names none."""
        if self.primary not in self.items:
            raise Unreadable
        return self.items[self.primary]

    def content(self, item: Item) -> bytes:
        """Raises Unreadable where it lies outside of the file."""
        if not item.extents or any(end > len(self.data) for _, end in item.extents):
            raise Unreadable
        return b"".join(self.data[start:end] for start, end in item.extents)


def brands(data: bytes) -> set[bytes]:
    """The brands that the file names; none if it is not a file of boxes."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4]), MAX_BRAND_BYTES, len(data))
    return {data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))}


def bare(data: bytes) -> BareImage:
    """The file with EXIF, XMP and foreign boxes wiped. Raises Unreadable without a picture."""
    file = read_file(data)
    left, top, right, bottom = file.picture.shown
    wiped = bytearray(data)
    for item in file.items.values():
        if item.kind in METADATA_ITEMS:
            # Decoders do not look for metadata in an item of an unknown type.
            wiped[item.kind_at : item.kind_at + 4] = b"none"
            for start, end in item.extents:
                _wipe(wiped, start, end)
    last = 0
    for kind, start, end in file.boxes:
        if kind in PIXEL_BOXES:
            last = end
        else:
            _wipe(wiped, min(start + 8, end), end)
    # Films of a second and the like, which phones append.
    del wiped[last:]
    return BareImage(bytes(wiped), right - left, bottom - top, file.picture.orientation)


def size(data: bytes) -> tuple[int, int]:
    """(width, height) as stored, of the picture or, where it is larger, of the largest item. Raises Unreadable."""
    file = read_file(data)
    largest = file.picture.size
    for item in file.items.values():
        if item.said(b"ispe") and item.size[0] * item.size[1] > largest[0] * largest[1]:
            largest = item.size
    return largest


def read_file(data: bytes) -> HeifFile:
    """Where everything is. Raises Unreadable if the file does not say so, or lists too much."""
    file = HeifFile(data)
    file.boxes = list(_boxes(data, 0, len(data)))
    try:
        start, end = next((start, end) for kind, start, end in file.boxes if kind == b"meta")
        # After the box's own version.
        inner = {kind: (at, stop) for kind, at, stop in _boxes(data, start + 12, end)}
        file.primary = _number(data, inner[b"pitm"][0] + 12, 4 if data[inner[b"pitm"][0] + 8] else 2)
        _read_kinds(file, *inner[b"iinf"])
        _read_extents(file, inner)
        _read_properties(file, *inner[b"iprp"])
        if b"iref" in inner:
            _read_parts(file, *inner[b"iref"])
    except (StopIteration, KeyError, IndexError, struct.error):
        raise Unreadable from None
    return file


def _wipe(data: bytearray, start: int, end: int) -> None:
    end = min(end, len(data))
    if start < end:
        data[start:end] = bytes(end - start)


def _number(data: bytes, at: int, length: int) -> int:
    if at + length > len(data):
        raise Unreadable
    return int.from_bytes(data[at : at + length])


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of the boxes between the two places; the last may be cut by the end."""
    for _ in range(MAX_BOXES):
        if start + 8 > end:
            return
        length, kind = int.from_bytes(data[start : start + 4]), data[start + 4 : start + 8]
        if length == 1:
            length = _number(data, start + 8, 8)
        elif length == 0:
            length = end - start
        if length < 8:
            return
        yield kind, start, min(start + length, end)
        start += length
    raise Unreadable


def _read_kinds(file: HeifFile, start: int, end: int) -> None:
    data = file.data
    at = start + (16 if data[start + 8] else 14)
    for kind, entry, _ in _boxes(data, at, end):
        version = data[entry + 8]
        if kind == b"infe" and version >= 2:
            id_bytes = 2 if version == 2 else 4
            item = file.items.setdefault(_number(data, entry + 12, id_bytes), Item())
            item.kind_at = entry + 14 + id_bytes
            item.kind = data[item.kind_at : item.kind_at + 4]


def _read_extents(file: HeifFile, inner: dict[bytes, tuple[int, int]]) -> None:
    data, (start, _) = file.data, inner[b"iloc"]
    version, sizes = data[start + 8], _number(data, start + 12, 2)
    offset_bytes, length_bytes, base_bytes = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_bytes = sizes & 15 if version else 0
    id_bytes = 4 if version == 2 else 2
    at = start + 14 + id_bytes
    left = MAX_ENTRIES
    for _ in range(_number(data, start + 14, id_bytes)):
        left -= 1
        number, at = _number(data, at, id_bytes), at + id_bytes
        method = 0
        if version:
            method, at = _number(data, at, 2) & 15, at + 2
        base, at = _number(data, at + 2, base_bytes), at + 2 + base_bytes
        count, at = _number(data, at, 2), at + 2
        left -= count
        if left < 0:
            raise Unreadable
        if method == 1:
            base += inner[b"idat"][0] + 8
        for _ in range(count):
            offset = base + _number(data, at + index_bytes, offset_bytes)
            length = _number(data, at + index_bytes + offset_bytes, length_bytes)
            at += index_bytes + offset_bytes + length_bytes
            if method < 2 and number in file.items:
                file.items[number].extents.append((offset, offset + length if length else len(data)))


def _read_properties(file: HeifFile, start: int, end: int) -> None:
    data = file.data
    known: list[Property] = []
    for kind, at, stop in _boxes(data, start + 8, end):
        if kind == b"ipco":
            for name, inside, until in _boxes(data, at + 8, stop):
                known.append(Property(name, data[inside + 8 : until]))
    left = MAX_ENTRIES
    for kind, at, _ in _boxes(data, start + 8, end):
        if kind != b"ipma":
            continue
        id_bytes, index_bytes = 4 if data[at + 8] else 2, 1 + (data[at + 11] & 1)
        place = at + 16
        for _ in range(_number(data, at + 12, 4)):
            item = file.items.get(_number(data, place, id_bytes))
            count, place = data[place + id_bytes], place + id_bytes + 1
            left -= count + 1
            if left < 0:
                raise Unreadable
            for _ in range(count):
                index = _number(data, place, index_bytes) & (0x7FFF if index_bytes == 2 else 0x7F)
                place += index_bytes
                if item is not None and 0 < index <= len(known):
                    item.properties.append(known[index - 1])


def _read_parts(file: HeifFile, start: int, end: int) -> None:
    data = file.data
    id_bytes = 4 if data[start + 8] else 2
    left = MAX_ENTRIES
    for kind, at, stop in _boxes(data, start + 12, end):
        item = file.items.get(_number(data, at + 8, id_bytes))
        if kind == b"dimg" and item is not None:
            first, count = at + 10 + id_bytes, _number(data, at + 8 + id_bytes, 2)
            left -= count
            if first + count * id_bytes > stop or left < 0:
                raise Unreadable
            item.parts = [_number(data, first + n * id_bytes, id_bytes) for n in range(count)]
