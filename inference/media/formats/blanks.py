"""Blank parts of a file without moving any other byte, so that offsets into the file stay right."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Blank:
    """Bytes [start, end) become ``head`` and zeros."""

    start: int
    end: int
    head: bytes = b""


def in_order(data: bytes, blanks: Iterable[Blank]) -> tuple[Blank, ...]:
    """Sorted and inside the file, without those that begin inside another or change nothing."""
    kept: list[Blank] = []
    for blank in sorted(blanks):
        start, end = blank.start, min(blank.end, len(data))
        if start + len(blank.head) > end or start == end or (kept and start < kept[-1].end):
            continue
        if data[start:end] != _filled(blank.head, end - start):
            kept.append(Blank(start, end, blank.head))
    return tuple(kept)


def blanked(data: bytes, blanks: Sequence[Blank]) -> bytes:
    """A copy of the file, for blanks that are ``in_order``."""
    copy = bytearray(data)
    for blank in blanks:
        copy[blank.start : blank.end] = _filled(blank.head, blank.end - blank.start)
    return bytes(copy)


def _filled(head: bytes, length: int) -> bytes:
    return head + bytes(length - len(head))


class BlankedFile:
    """Reads as the blanked file would, without a second copy of it in memory. The blanks are ``in_order``."""

    def __init__(self, data: bytes, blanks: Sequence[Blank]) -> None:
        self._data = memoryview(data)
        self._blanks = blanks
        self._starts = [blank.start for blank in blanks]
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        start, end = self._at, len(self._data) if size < 0 else min(self._at + size, len(self._data))
        piece = bytearray(self._data[start:end])
        self._at = max(start, end)
        for blank in self._blanks[max(0, bisect_right(self._starts, start) - 1) : bisect_right(self._starts, end)]:
            first, last = max(blank.start, start), min(blank.end, end)
            if first < last:
                piece[first - start : last - start] = bytes(last - first)
                head = blank.head[first - blank.start : last - blank.start]
                piece[first - start : first - start + len(head)] = head
        return bytes(piece)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._data)}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def tell(self) -> int:
        return self._at
