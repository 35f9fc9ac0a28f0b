"""What the index of an MP4 or MOV claims, read before FFmpeg builds its own tables from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from inference.media.formats.bare import Unreadable

#: boxes that hold the boxes of interest
PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"}
#: boxes of one file, and boxes in boxes; what a browser recorded for ten minutes has some ten thousand
MAX_BOXES, MAX_DEPTH = 200_000, 8


@dataclass(slots=True)
class Track:
    """One track's index: where its samples lie."""

    #: where its box begins
    at: int
    is_video: bool = False
    #: frames, or pieces of sound
    samples: int = 0
    #: boxes of the sample table → their content
    tables: dict[bytes, memoryview] = field(default_factory=dict)

    def ends_at(self) -> int:
        """Where the last byte of any sample lies, plus one; 0 where the index does not say."""
        try:
            return self._ends_at()
        except (KeyError, ValueError, IndexError):
            return 0

    def _ends_at(self) -> int:
        sizes = self._sizes()
        wide = b"co64" in self.tables
        offsets = _numbers(self.tables[b"co64" if wide else b"stco"][8:], 8 if wide else 4)
        runs = _numbers(self.tables[b"stsc"][8:], 4)
        runs = runs[: len(runs) // 3 * 3].reshape(-1, 3)
        # A run says how many samples each chunk has from its first chunk on, until the next run begins.
        firsts = np.minimum(runs[:, 0] - 1, len(offsets))
        per_chunk = np.repeat(runs[:, 1], np.diff(np.append(firsts, len(offsets))))
        last = np.minimum(np.cumsum(per_chunk), len(sizes))
        before = np.concatenate([[0], last[:-1]])
        summed = np.concatenate([[0], np.cumsum(sizes)])
        ends = offsets[: len(last)] + summed[last] - summed[before]
        ends = ends[last > before]
        return int(ends.max()) if len(ends) else 0

    def _sizes(self) -> np.ndarray:
        table = self.tables[b"stsz"]
        same = int.from_bytes(table[4:8])
        if same:
            return np.full(self.samples, same, np.int64)
        return _numbers(table[12:], 4)[: self.samples]


@dataclass(slots=True)
class Index:
    """What a file says of its samples."""

    tracks: list[Track] = field(default_factory=list)
    #: samples that are named outside the tracks, in fragments
    fragment_samples: int = 0


def read_index(data: bytes) -> Index:
    """The file's index, without looking at any sample. Raises Unreadable where it has more boxes than honest files."""
    index = Index()
    for kind, at, content in _boxes(memoryview(data), 0, MAX_DEPTH, [MAX_BOXES]):
        if kind == b"trak":
            index.tracks.append(Track(at))
        elif kind == b"trun":
            index.fragment_samples += int.from_bytes(content[4:8])
        elif not index.tracks:
            continue
        elif kind == b"hdlr":
            # QuickTime has a second one in a track, that of the file with the samples.
            index.tracks[-1].is_video |= bytes(content[8:12]) == b"vide"
        elif kind in (b"stsz", b"stz2"):
            index.tracks[-1].samples = max(index.tracks[-1].samples, int.from_bytes(content[8:12]))
            index.tracks[-1].tables[kind] = content
        elif kind in (b"stco", b"co64", b"stsc"):
            index.tracks[-1].tables[kind] = content
    return index


def without_tracks(data: bytes, tracks: list[Track]) -> bytes:
    """The file with these tracks' boxes declared free space."""
    if not tracks:
        return data
    changed = bytearray(data)
    for track in tracks:
        changed[track.at + 4 : track.at + 8] = b"free"
    return bytes(changed)


def _boxes(data: memoryview, start: int, depth: int, left: list[int]) -> Iterator[tuple[bytes, int, memoryview]]:
    """(type, place in the file, content) of boxes, parents before their children."""
    at = 0
    while at + 8 <= len(data):
        left[0] -= 1
        if left[0] < 0:
            raise Unreadable
        size, kind, head = int.from_bytes(data[at : at + 4]), bytes(data[at + 4 : at + 8]), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16]), 16
        elif size == 0:
            size = len(data) - at
        if size < head:
            return
        content = data[at + head : at + size]
        yield kind, start + at, content
        if kind in PARENTS and depth:
            yield from _boxes(content, start + at + head, depth - 1, left)
        at += size


def _numbers(table: memoryview, width: int) -> np.ndarray:
    whole = table[: len(table) // width * width]
    return np.frombuffer(whole, ">u4" if width == 4 else ">u8").astype(np.int64)
