"""The orientation, the one value in EXIF and XMP that affects the pixels."""

from __future__ import annotations

import re
import struct

from inference.media.formats.bare import UPRIGHT

ORIENTATION_TAG = 0x0112
#: the unsigned types that a tag's value may have, by EXIF's number: byte, short, long
INTEGER_TYPES = {1: "B", 3: "H", 4: "L"}
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')


def orientation_in(exif: bytes | None, xmp: bytes | None = None) -> int:
    """1 to 8 as EXIF counts, XMP's where EXIF says nothing, and 1 where neither can be understood."""
    if exif is not None and (found := _from_exif(exif)) is not None:
        return found
    if xmp is not None and (match := _XMP_ORIENTATION.search(xmp)):
        return int(match[1])
    return UPRIGHT


def minimal_exif(orientation: int) -> bytes:
    """A TIFF header and a directory with nothing but the orientation."""
    return struct.pack("<2sHLHHHLHHL", b"II", 42, 8, 1, ORIENTATION_TAG, 3, 1, orientation, 0, 0)


def _from_exif(exif: bytes) -> int | None:
    """The orientation in the first directory; None if it has none."""
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return None
    try:
        (at,) = struct.unpack_from(order + "L", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, at)
        for n in range(count):
            entry = at + 2 + 12 * n
            tag, kind = struct.unpack_from(order + "HH", exif, entry)
            if tag == ORIENTATION_TAG and kind in INTEGER_TYPES:
                (value,) = struct.unpack_from(order + INTEGER_TYPES[kind], exif, entry + 8)
                return value if 1 <= value <= 8 else UPRIGHT
    except struct.error:
        pass
    return None
