"""Limits of size and cost for images and videos. Plain values, because decoding processes load no settings."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from inference.errors import InvalidMedia

#: Qwen's processors refuse anything longer
MAX_ASPECT_RATIO = 200


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one decoding job."""

    #: pixels of one image, or of one frame of a video
    image_pixels: int
    #: scans of a progressive JPEG
    image_scans: int
    #: pixels of all sampled frames of a video together
    video_pixels: int
    video_seconds: float
    #: sampled frames of a video
    video_frames: int
    #: CPU seconds to decode one image and one video
    image_decode_seconds: float
    video_decode_seconds: float
    #: memory of a decoding process, in addition to its idle size
    memory_bytes: int


def media_limits() -> Limits:
    """The limits in the settings."""
    return Limits(
        image_pixels=settings.MAX_IMAGE_PIXELS,
        image_scans=settings.MAX_IMAGE_SCANS,
        video_pixels=settings.MAX_VIDEO_PIXELS,
        video_seconds=settings.MAX_VIDEO_SECONDS,
        video_frames=settings.MAX_VIDEO_FRAMES,
        image_decode_seconds=settings.IMAGE_DECODE_TIMEOUT_SECONDS,
        video_decode_seconds=settings.MEDIA_DECODE_TIMEOUT_SECONDS,
        memory_bytes=settings.MEDIA_DECODE_MEMORY_MB * 2**20,
    )


def check_shape(width: int, height: int, limits: Limits, *, kind: str, param: str | None) -> None:
    """Refuse pictures and frames that are too large to decode or too long and thin for the model."""
    if width * height > limits.image_pixels:
        raise InvalidMedia(
            f"The {kind} has {width} x {height} pixels; at most {limits.image_pixels} pixels are allowed.",
            param=param,
        )
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise InvalidMedia(
            f"The {kind} is too long and thin ({width} x {height}): "
            f"one side may be at most {MAX_ASPECT_RATIO} times the other.",
            param=param,
        )
