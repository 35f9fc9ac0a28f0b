"""Shared memory that passes decoded pixels to the server process without copying them through a pipe.

The server makes anonymous memory, which is freed with its last user, so that nothing is left when one of them is
killed. The decoding process opens it through ``/proc``. On systems without this, pixels go through the pipe.
"""

from __future__ import annotations

import math
import mmap
import os
from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True, slots=True)
class Place:
    """Where the decoding process finds the memory, and how it recognises it."""

    path: str
    #: device and number of the file: the server may have closed it, and opened another under the same path
    identity: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Placed:
    """The memory holds bytes of this shape."""

    shape: tuple[int, ...]


class SharedPixels:
    """The server's side of the memory for one job."""

    def __init__(self) -> None:
        self._file = os.memfd_create("pixels") if hasattr(os, "memfd_create") else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            os.close(self._file)

    @property
    def place(self) -> Place | None:
        if self._file is None:
            return None
        found = os.fstat(self._file)
        return Place(f"/proc/{os.getpid()}/fd/{self._file}", (found.st_dev, found.st_ino))

    def pixels(self, result: np.ndarray | Placed) -> np.ndarray:
        """The result of the work; the memory lives as long as the array."""
        if isinstance(result, np.ndarray):
            return result
        if self._file is None:
            raise ValueError("nothing was shared")
        return _mapped(self._file, result.shape)


class PixelBuffer:
    """Where a decoding process puts its pixels: into the shared memory, or into its own if that is not possible."""

    def __init__(self, place: Place | None) -> None:
        self._place = place
        self._is_shared = False

    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        """Room for bytes of this shape; called once."""
        if self._place is None:
            return np.empty(shape, np.uint8)
        try:
            file = os.open(self._place.path, os.O_RDWR)
        except OSError:
            return np.empty(shape, np.uint8)
        try:
            found = os.fstat(file)
            if (found.st_dev, found.st_ino) != self._place.identity:
                return np.empty(shape, np.uint8)
            os.truncate(file, math.prod(shape))
            buffer = _mapped(file, shape)
        finally:
            os.close(file)
        self._is_shared = True
        return buffer

    def result(self, filled: np.ndarray) -> np.ndarray | Placed:
        """What is sent to the server: ``filled`` is the buffer or the first part of it."""
        return Placed(filled.shape) if self._is_shared else filled


def _mapped(file: int, shape: tuple[int, ...]) -> np.ndarray:
    """The beginning of the file, which need not stay open."""
    return np.frombuffer(mmap.mmap(file, math.prod(shape)), np.uint8).reshape(shape)
