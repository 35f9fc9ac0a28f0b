"""Find the metadata in a film's file: the place, the device, the time, notes and pictures.

Only what stands beside the film is found, in MP4, MOV, Matroska and WebM. What a camera writes into the film's own
stream stays, as it cannot be told from what makes the pictures.
"""

from __future__ import annotations

from collections.abc import Iterator

from inference.media.formats import matroska, mp4
from inference.media.formats.blanks import Blank, in_order

#: parent box → the boxes of an MP4 that are kept; all others at the top and in these boxes are metadata
FILM_BOXES = {
    b"": {b"ftyp", b"styp", b"moov", b"mdat", b"moof", b"mfra", b"sidx", b"ssix", b"wide"},
    b"moov": {b"mvhd", b"trak", b"mvex", b"iods", b"cmov"},
    b"trak": {b"tkhd", b"edts", b"mdia", b"tref"},
}
#: boxes that begin with the times of making and of the last change
TIMED = {b"mvhd", b"tkhd", b"mdhd"}
#: tracks that are kept: others are positions, titles and marks
FILM_TRACKS = {b"vide", b"soun", b"auxv", b"pict"}
#: pieces of such a track that are blanked one by one
MAX_PIECES = 100_000


def in_mp4(data: bytes) -> tuple[Blank, ...]:
    """Raises Unreadable as ``mp4.boxes`` does."""
    return in_order(data, _in_mp4(data))


def _in_mp4(data: bytes) -> Iterator[Blank]:
    for box in mp4.boxes(data):
        if box.kind not in FILM_BOXES.get(box.parent, {box.kind}):
            # Its size stays, in the four bytes before.
            yield Blank(box.at + 4, box.at + 8, b"free")
            yield Blank(box.content_at, box.end)
        elif box.kind in TIMED and box.content_at + 20 <= box.end:
            wide = data[box.content_at] == 1
            yield Blank(box.content_at + 4, box.content_at + (20 if wide else 12))
    for track in mp4.read_index(data).tracks:
        if track.handlers & FILM_TRACKS:
            continue
        yield Blank(track.at + 4, track.at + 8, b"free")
        yield Blank(track.content_at, track.end)
        yield from (Blank(start, end) for start, end in track.pieces(MAX_PIECES))


def in_matroska(data: bytes) -> tuple[Blank, ...]:
    """Raises Unreadable where the file has more elements than honest ones."""
    return in_order(data, (_void(start, end) for start, end in matroska.metadata(data)))


def _void(start: int, end: int) -> Blank:
    """Matroska's own empty element, of the same length."""
    length = end - start
    # A short size has seven bits, a long one 56.
    head = b"\xec" + (bytes([0x80 | length - 2]) if length < 9 else b"\x01" + (length - 9).to_bytes(7))
    return Blank(start, end, head)
