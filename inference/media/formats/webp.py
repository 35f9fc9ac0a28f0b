"""WebP: the chunks with pixels, in a RIFF file that says how long it is."""

from __future__ import annotations

from collections.abc import Iterator

from inference.media.formats.bare import UPRIGHT, BareImage, Unreadable
from inference.media.formats.exif import minimal_exif, orientation_in

#: what makes pixels: the extended header, the picture, its alpha, and the frames of an animation
PIXEL_CHUNKS = {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"}
#: bits of the extended header that announce a profile, EXIF and XMP
PROFILE, EXIF, XMP = 0x20, 0x08, 0x04


def bare(data: bytes) -> BareImage:
    """The picture or animation without profile, EXIF and XMP. Raises Unreadable without a readable header."""
    chunks: list[tuple[bytes, bytes]] = []
    exif = xmp = None
    for kind, content in _chunks(data):
        if kind in PIXEL_CHUNKS:
            chunks.append((kind, content))
        elif kind == b"EXIF":
            exif = content
        elif kind == b"XMP ":
            xmp = content
    if not chunks:
        raise Unreadable
    kind, content = chunks[0]
    width, height = _size(kind, content)
    orientation = orientation_in(exif, xmp)
    if kind == b"VP8X":
        flags = content[0] & ~(PROFILE | EXIF | XMP)
        if orientation != UPRIGHT:
            flags |= EXIF
            chunks.append((b"EXIF", minimal_exif(orientation)))
        chunks[0] = (kind, bytes([flags]) + content[1:])
    body = b"WEBP" + b"".join(_chunk(*chunk) for chunk in chunks)
    return BareImage(b"RIFF" + len(body).to_bytes(4, "little") + body, width, height, orientation)


def size(data: bytes) -> tuple[int, int]:
    """(width, height) of the first chunk. Raises Unreadable."""
    return _size(data[12:16], data[20:30])


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    end = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    at = 12
    while at + 8 <= end:
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        kind, content = data[at : at + 4], data[at + 8 : min(at + 8 + length, end)]
        if kind in PIXEL_CHUNKS and len(content) < length:
            raise Unreadable
        yield kind, content
        at += 8 + length + length % 2


def _chunk(kind: bytes, content: bytes) -> bytes:
    return kind + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) % 2)


def _size(kind: bytes, content: bytes) -> tuple[int, int]:
    if kind == b"VP8X" and len(content) >= 10:
        return int.from_bytes(content[4:7], "little") + 1, int.from_bytes(content[7:10], "little") + 1
    if kind == b"VP8 " and content[3:6] == b"\x9d\x01\x2a" and len(content) >= 10:
        return tuple(int.from_bytes(content[n : n + 2], "little") & 0x3FFF for n in (6, 8))  # type: ignore[return-value]
    if kind == b"VP8L" and content[:1] == b"\x2f" and len(content) >= 5:
        bits = int.from_bytes(content[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise Unreadable
