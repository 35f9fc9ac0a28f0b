"""Small JPEGs of images and videos for the pages of operators. All of it runs in the decoding processes."""

from __future__ import annotations

import io

from PIL import Image

from inference.media.images import decode_image
from inference.media.limits import Limits
from inference.media.videos import first_frame

QUALITY = 80
#: pixels to which a large picture may be reduced while it is decoded for a thumbnail
ENOUGH_PIXELS = 2**20


def image_thumbnail(data: bytes, limits: Limits, param: str | None, longest_side: int) -> bytes:
    """A thumbnail of an image. Raises the same errors as ``decode_image``."""
    return _jpeg(decode_image(data, limits, param, enough=ENOUGH_PIXELS), longest_side)


def video_thumbnail(data: bytes, limits: Limits, param: str | None, longest_side: int) -> bytes:
    """A thumbnail of a video. Raises the same errors as ``first_frame``."""
    return _jpeg(first_frame(data, limits, param), longest_side)


def _jpeg(image: Image.Image, longest_side: int) -> bytes:
    image.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    # Decoded and encoded again, so it contains no bytes of the original file.
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
