"""JPEG: tables, frame and scans, and the two markers that say how colours are meant."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from inference.media.formats.bare import UPRIGHT, BareImage, Unreadable
from inference.media.formats.exif import minimal_exif, orientation_in

START = b"\xff\xd8"
END = b"\xff\xd9"
SOF = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
SOS, EOI, COM = 0xDA, 0xD9, 0xFE
APP = range(0xE0, 0xF0)
#: segments that are looked at for the size; a profile of megabytes takes some hundred
MAX_SEGMENTS = 5000
#: scans whose contents are noted; more than any encoder writes
NOTED_SCANS = 1000
#: the next marker that has a length, or ends the file: no stuffed zero, restart, start or filling
_MARKER = re.compile(rb"\xff+([^\xff\x00\x01\xd0-\xd8])")
#: what ends a scan: a marker that is neither a stuffed zero nor a restart nor filling
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
#: entropy-coded bits of both kinds, and no marker; long enough for a decoder to make blocks of it
_OTHER_BITS = b"\x55\xaa" * 2048
_XMP = b"http://ns.adobe.com/xap/1.0/\0"


@dataclass
class _Walk:
    """What a pass over the file has found."""

    parts: list[bytes] = field(default_factory=list)
    exif: list[bytes] = field(default_factory=list)
    xmp: bytes | None = None
    size: tuple[int, int] | None = None
    is_progressive: bool = False
    #: of a block's coefficients, for all blocks of the frame
    coefficient_bytes: int = 0
    components: set[int] = field(default_factory=set)
    scans: int = 0
    #: (component, coefficient) → bits of it that are still to come
    missing_bits: dict[tuple[int, int], int] = field(default_factory=dict)
    ended: bool = False

    @property
    def has_all_scans(self) -> bool:
        last = 64 if self.is_progressive else 1
        return all(self.missing_bits.get((c, k), 1) == 0 for c in self.components for k in range(last))


def bare(data: bytes) -> BareImage:
    """The first picture without APPn and comments, and with an end marker.

    Raises Unreadable where the file ends before its last scan has begun.
    """
    walk = _Walk()
    _read(data, walk)
    if walk.size is None or not walk.scans or not (walk.ended or walk.has_all_scans):
        raise Unreadable
    orientation = orientation_in(b"".join(walk.exif) or None, walk.xmp)
    if orientation != UPRIGHT:
        exif = b"Exif\0\0" + minimal_exif(orientation)
        # After JFIF's marker, which must come first.
        at = 1 if walk.parts[0][1] == APP[0] else 0
        walk.parts.insert(at, b"\xff\xe1" + (len(exif) + 2).to_bytes(2) + exif)
    picture = START + b"".join(walk.parts)
    control = None
    if not walk.ended:
        # Bytes after the last pixel change nothing; if pixels are missing, other bits there decode to other pixels.
        picture = picture.rstrip(b"\xff")
        control = picture + _OTHER_BITS + END
    buffered = walk.coefficient_bytes if walk.scans > 1 else 0
    return BareImage(picture + END, *walk.size, orientation, walk.scans, control, buffered)


def size(data: bytes) -> tuple[int, int]:
    """(width, height) of the frame. Raises Unreadable if there is none, or too much comes before it."""
    at = len(START)
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(data, at)
        if found is None or found[1][0] in (EOI, SOS):
            break
        at = found.end() - 2
        if found[1][0] in SOF and at + 9 <= len(data):
            return int.from_bytes(data[at + 7 : at + 9]), int.from_bytes(data[at + 5 : at + 7])
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    raise Unreadable


def scans_in(data: bytes) -> int:
    """How many scans a picture has, wherever it ends."""
    walk = _Walk()
    _read(data, walk)
    return walk.scans


def _read(data: bytes, walk: _Walk) -> None:
    at = len(START)
    while found := _MARKER.search(data, at):
        marker, at = found[1][0], found.end() - 2
        if marker == EOI:
            walk.ended = True
            return
        length = int.from_bytes(data[at + 2 : at + 4])
        end = at + 2 + length
        segment = data[at:end]
        if length < 2 or end > len(data):
            return
        if marker == SOS:
            following = _NEXT_MARKER.search(data, end)
            end = following.start() if following else len(data)
            segment = data[at:end]
            _note_scan(segment, walk)
        elif marker in SOF and len(segment) >= 10 and walk.size is None:
            walk.size = int.from_bytes(segment[7:9]), int.from_bytes(segment[5:7])
            walk.is_progressive = marker in PROGRESSIVE
            walk.components = set(segment[10::3][: segment[9]])
            walk.coefficient_bytes = _coefficient_bytes(*walk.size, segment[11::3][: segment[9]])
        if marker in APP or marker == COM:
            _note_metadata(marker, segment, walk)
        else:
            walk.parts.append(segment)
        at = end


def _coefficient_bytes(width: int, height: int, sampling: bytes) -> int:
    """128 for each block of 8 x 8. ``sampling`` has each component's factors, those of the width in the upper half."""
    widest, highest = max([f >> 4 for f in sampling], default=1), max([f & 15 for f in sampling], default=1)
    share = sum((f >> 4) * (f & 15) for f in sampling) / max(1, widest * highest)
    return int(width * height / 64 * share * 128)


def _note_metadata(marker: int, segment: bytes, walk: _Walk) -> None:
    content = segment[4:]
    if content.startswith(b"JFIF\0") or (marker == 0xEE and content.startswith(b"Adobe")):
        # They say whether the colours are RGB, YCbCr, CMYK or YCCK.
        walk.parts.append(segment)
    elif marker == 0xE1 and content.startswith(b"Exif\0\0"):
        walk.exif.append(content[6:])
    elif marker == 0xE1 and content.startswith(_XMP):
        walk.xmp = content[len(_XMP) :]


def _note_scan(segment: bytes, walk: _Walk) -> None:
    walk.scans += 1
    if walk.scans > NOTED_SCANS:
        return
    count = segment[4] if len(segment) > 4 else 0
    components = segment[5 : 5 + 2 * count : 2]
    selection = segment[5 + 2 * count : 8 + 2 * count]
    if len(selection) < 3:
        return
    first, last, bits = (selection[0], selection[1], selection[2] & 15) if walk.is_progressive else (0, 0, 0)
    for component in components:
        for k in range(first, min(last, 63) + 1):
            walk.missing_bits[component, k] = bits
