"""The size at which a model sees pictures and videos, and their tokens, computed from width and height alone.

The arithmetic is that of Qwen's image and video processors. torch is not imported, because web processes use this too.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Self


@dataclasses.dataclass(frozen=True, slots=True)
class VisionSizes:
    """The size limits of a processor."""

    #: pixels along one side of a token
    token_side: int
    #: frames that share their tokens
    frames_together: int
    #: minimum and maximum pixels of an image, and of all frames of a video together
    image_pixels: tuple[int, int]
    video_pixels: tuple[int, int]
    #: maximum tokens of a frame, when the processor limits frames one by one
    frame_tokens: int | None = None

    @classmethod
    def of(cls, processor: Any) -> Self | None:
        """The limits of a loaded processor; None for an unknown kind of processor."""
        try:
            image, video = processor.image_processor, processor.video_processor
            return cls(
                token_side=int(image.patch_size * image.merge_size),
                frames_together=int(video.temporal_patch_size),
                image_pixels=_edges(image.size),
                video_pixels=_edges(video.size),
                frame_tokens=int(video.max_video_tokens) if getattr(video, "cap_pixels_per_frame", None) else None,
            )
        except (AttributeError, KeyError, TypeError):
            return None

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """From the result of ``dataclasses.asdict``, with JSON's lists for tuples."""
        pairs = {name: tuple(stored[name]) for name in ("image_pixels", "video_pixels")}
        return cls(**{**stored, **pairs})

    def image_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) at which the model sees an image."""
        return self._size(width, height, 1, 1, self.image_pixels)

    def image_tokens(self, width: int, height: int) -> int:
        return self._tokens(self.image_size(width, height))

    def video_tokens(self, frames: int, width: int, height: int) -> int:
        """Tokens of the frames; the timestamps between them take a few more."""
        return math.ceil(frames / self.frames_together) * self._tokens(self.video_size(frames, width, height))

    def video_size(self, frames: int, width: int, height: int) -> tuple[int, int]:
        """(width, height) at which the model sees the frames of a video."""
        low, high = self.video_pixels
        if self.frame_tokens is not None:
            share = min(self.frame_tokens * self.token_side**2, high // frames)
            high = max(share, int(low * 1.05)) * frames
        together = self.frames_together
        return self._size(width, height, frames, round(frames / together) * together, (low, high))

    def reduced(self, width: int, height: int) -> tuple[int, int] | None:
        """The size to which an image may be reduced so that the processor produces the same size from it.

        None when nothing is gained, because the model sees the image at its own size or larger.
        """
        if width * height <= self.image_pixels[1]:
            return None
        size = self.image_size(width, height)
        # If the range of sizes is narrow, the processor may enlarge the reduced image again.
        return size if self.image_size(*size) == size else None

    def reduced_video(self, frames: int, width: int, height: int) -> tuple[int, int] | None:
        """Like ``reduced``, for the frames of a video."""
        size = self.video_size(frames, width, height)
        if size[0] * size[1] >= width * height:
            return None
        return size if self.video_size(frames, *size) == size else None

    def _tokens(self, size: tuple[int, int]) -> int:
        return size[0] * size[1] // self.token_side**2

    def _size(
        self, width: int, height: int, frames: int, counted_frames: int, pixels: tuple[int, int]
    ) -> tuple[int, int]:
        side = self.token_side
        if frames > 1 and min(width, height) < side:
            scale = max(side / width, side / height)
            width, height = int(width * scale), int(height * scale)
        sides = width, height
        least, most = pixels
        columns, rows = (round(length / side) * side for length in sides)
        if counted_frames * columns * rows > most:
            ratio = math.sqrt(frames * width * height / most)
            columns, rows = (max(side, math.floor(length / ratio / side) * side) for length in sides)
        elif counted_frames * columns * rows < least:
            ratio = math.sqrt(least / (frames * width * height))
            columns, rows = (math.ceil(length * ratio / side) * side for length in sides)
        return columns, rows


def _edges(size: Any) -> tuple[int, int]:
    read = size.__getitem__ if isinstance(size, dict) else lambda name: getattr(size, name)
    return int(read("shortest_edge")), int(read("longest_edge"))


@dataclasses.dataclass(frozen=True, slots=True)
class ModelVision:
    """The sizes at which a model sees media, and its context."""

    sizes: VisionSizes
    #: tokens of prompt and answer together
    context_tokens: int

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        return cls(VisionSizes.from_json(stored["sizes"]), stored["context_tokens"])
