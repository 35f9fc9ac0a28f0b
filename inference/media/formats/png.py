"""PNG: the chunks that make the pixels, and none of the others."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

from inference.media.formats.bare import UPRIGHT, BareImage, Unreadable
from inference.media.formats.exif import minimal_exif, orientation_in

SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: bytes of a decompressed text chunk that are searched for the orientation
TEXT_BYTES = 1_000_000
_RAW_EXIF = (b"Raw profile type exif", b"Raw profile type APP1")
_HEX = re.compile(rb"[0-9a-fA-F]{2}")


def bare(data: bytes) -> BareImage:
    """The picture without ancillary chunks. Of an animation the picture that viewers without animations show.

    Raises Unreadable without a header.
    """
    kept: dict[bytes, list[bytes]] = {}
    pixels: list[bytes] = []
    exif = xmp = None
    for kind, content, checksum in chunks(data):
        match kind:
            case b"IHDR" | b"PLTE":
                kept.setdefault(kind, [chunk(kind, content, checksum)])
            case b"tRNS" if checksum == _checksum(kind, content):
                # As libpng does: a damaged ancillary chunk is no chunk, though this one is about pixels.
                kept.setdefault(kind, [chunk(kind, content, checksum)])
            case b"IDAT":
                pixels.append(chunk(kind, content, checksum))
            case b"eXIf":
                exif = content
            case b"tEXt" | b"zTXt" | b"iTXt":
                keyword, text = _text(kind, content)
                if keyword == b"XML:com.adobe.xmp":
                    xmp = text
                elif keyword in _RAW_EXIF and exif is None:
                    exif = _from_hex(text)
    header = b"".join(kept.get(b"IHDR", ()))
    if len(header) != 25:
        raise Unreadable
    width, height = struct.unpack_from(">LL", header, 8)
    orientation = orientation_in(exif, xmp)
    turn = b"" if orientation == UPRIGHT else chunk(b"eXIf", minimal_exif(orientation))
    parts = [SIGNATURE, header, turn, *kept.get(b"PLTE", ()), *kept.get(b"tRNS", ()), *pixels, chunk(b"IEND", b"")]
    return BareImage(b"".join(parts), width, height, orientation)


def size(data: bytes) -> tuple[int, int]:
    """(width, height) of the header, which comes first. Raises Unreadable."""
    if data[12:16] != b"IHDR" or len(data) < 24:
        raise Unreadable
    width, height = struct.unpack_from(">LL", data, 16)
    return width, height


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """(type, content, checksum) of each chunk up to the end; the last one may be cut, and is then given its own sum."""
    at = len(SIGNATURE)
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        kind = data[at + 4 : at + 8]
        if kind == b"IEND":
            return
        content = data[at + 8 : at + 8 + length]
        end = at + 8 + length
        is_whole = end + 4 <= len(data)
        yield kind, content, int.from_bytes(data[end : end + 4]) if is_whole else _checksum(kind, content)
        at = end + 4


def chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    checksum = _checksum(kind, content) if checksum is None else checksum
    return b"".join([len(content).to_bytes(4), kind, content, checksum.to_bytes(4)])


def _checksum(kind: bytes, content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(kind))


def _text(kind: bytes, content: bytes) -> tuple[bytes, bytes]:
    """The keyword and the text, decompressed up to the limit; an empty text if that fails."""
    keyword, _, rest = content.partition(b"\0")
    packed = kind == b"zTXt"
    if kind == b"iTXt":
        packed = rest[:1] == b"\1"
        # Two flags, a language and a translated keyword come before the text.
        rest = rest[2:].split(b"\0", 2)[-1]
    elif packed:
        rest = rest[1:]
    if not packed:
        return keyword, rest
    try:
        return keyword, zlib.decompressobj().decompress(rest, TEXT_BYTES)
    except zlib.error:
        return keyword, b""


def _from_hex(text: bytes) -> bytes:
    """A profile as ImageMagick writes it: a name, a length and hexadecimal digits over many lines."""
    digits = b"".join(text.split(b"\n", 3)[-1].split())
    return bytes(int(pair, 16) for pair in _HEX.findall(digits))
