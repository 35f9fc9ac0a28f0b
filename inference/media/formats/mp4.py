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


@dataclass(frozen=True, slots=True)
class Box:
    """Where in the file a box lies."""

    kind: bytes
    #: the box around it; empty at the top
    parent: bytes
    at: int
    content_at: int
    #: at most the end of the file
    end: int


@dataclass(slots=True)
class Track:
    """One track's index: where its samples lie."""

    #: of its box
    at: int
    content_at: int
    end: int
    #: ``vide``, ``soun`` and others; QuickTime has a second handler in a track, that of the file with the samples
    handlers: set[bytes] = field(default_factory=set)
    #: number of frames, or of pieces of sound
    samples: int = 0
    #: boxes of the sample table → their content
    tables: dict[bytes, memoryview] = field(default_factory=dict)

    @property
    def is_video(self) -> bool:
        return b"vide" in self.handlers

    def ends_at(self) -> int:
        """Where the last byte of any sample lies, plus one; 0 where the index does not say."""
        try:
            _, ends = self._chunks()
        except (KeyError, ValueError, IndexError):
            return 0
        return int(ends.max()) if len(ends) else 0

    def pieces(self, most: int) -> list[tuple[int, int]]:
        """[start, end) of the stretches of samples, the first ``most``; none where the index does not say."""
        try:
            starts, ends = self._chunks()
        except (KeyError, ValueError, IndexError):
            return []
        return [*zip(starts[:most].tolist(), ends[:most].tolist(), strict=True)]

    def _chunks(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each chunk of samples begins and ends, empty ones left out."""
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
        has_samples = last > before
        starts = offsets[: len(last)]
        return starts[has_samples], (starts + summed[last] - summed[before])[has_samples]

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
    #: samples that fragments list outside the tracks
    fragment_samples: int = 0


def read_index(data: bytes) -> Index:
    """The file's index, without looking at any sample. Raises Unreadable where it has more boxes than honest files."""
    index = Index()
    for box in boxes(data):
        content = memoryview(data)[box.content_at : box.end]
        if box.kind == b"trak":
            index.tracks.append(Track(box.at, box.content_at, box.end))
        elif box.kind == b"trun":
            index.fragment_samples += int.from_bytes(content[4:8])
        elif not index.tracks:
            continue
        elif box.kind == b"hdlr":
            index.tracks[-1].handlers.add(bytes(content[8:12]))
        elif box.kind in (b"stsz", b"stz2"):
            index.tracks[-1].samples = max(index.tracks[-1].samples, int.from_bytes(content[8:12]))
            index.tracks[-1].tables[box.kind] = content
        elif box.kind in (b"stco", b"co64", b"stsc"):
            index.tracks[-1].tables[box.kind] = content
    return index


def boxes(data: bytes) -> Iterator[Box]:
    """Those at the top and in ``PARENTS``, parents first. Raises Unreadable where honest files have fewer."""
    return _boxes(data, b"", 0, len(data), MAX_DEPTH, [MAX_BOXES])


def _boxes(data: bytes, parent: bytes, start: int, end: int, depth: int, left: list[int]) -> Iterator[Box]:
    at = start
    while at + 8 <= end:
        left[0] -= 1
        if left[0] < 0:
            raise Unreadable
        size, kind, head = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16]), 16
        elif size == 0:
            size = end - at
        if size < head:
            return
        box = Box(kind, parent, at, min(at + head, end), min(at + size, end))
        yield box
        if kind in PARENTS and depth:
            yield from _boxes(data, kind, box.content_at, box.end, depth - 1, left)
        at += size


def _numbers(table: memoryview, width: int) -> np.ndarray:
    whole = table[: len(table) // width * width]
    return np.frombuffer(whole, ">u4" if width == 4 else ">u8").astype(np.int64)
