"""The picture of a card as it is stored and as the model gets it: upright, RGB, no metadata, no larger than useful."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

from django.conf import settings
from PIL import Image

from inference.errors import TooLarge
from inference.media.images import decode_image, image_content_type
from inference.media.limits import Limits, check_shape

#: pixels; an ID-1 card of this width has 600 dots an inch, more than any print of it, and more pixels read no better
LONGEST_SIDE = 2048
JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True)
class CardImage:
    """An image ready to be stored and read."""

    content_type: str
    width: int
    height: int
    data: bytes
    kind: str = "image"
    param: str = "image"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def prepare(data: bytes, limits: Limits, param: str | None = "image") -> CardImage:
    """Decode what was uploaded and encode it anew: PNG stays PNG, everything else becomes JPEG.

    EXIF goes with that, and the place and the device it names. Takes some 100 ms of CPU for a phone's photograph, and
    is done in a process of its own. Raises InvalidMedia where it is no image.
    """
    image = decode_image(data, limits, param)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    # Rounding may have made a long strip longer than the model takes.
    check_shape(*image.size, limits, kind="image", param=param)
    # Pillow writes what it finds here into the file: ICC profiles, comments, text chunks.
    image.info.clear()
    content_type = "image/png" if image_content_type(data, param=param) == "image/png" else "image/jpeg"
    encoded = io.BytesIO()
    if content_type == "image/png":
        image.save(encoded, "PNG")
    else:
        image.save(encoded, "JPEG", quality=JPEG_QUALITY)
    return CardImage(content_type=content_type, width=image.width, height=image.height, data=encoded.getvalue())


def check_size(size: int) -> None:
    """Raises TooLarge for an upload of more than ``MAX_IMAGE_BYTES``."""
    if size > settings.MAX_IMAGE_BYTES:
        raise TooLarge(f"The image has {size} bytes; at most {settings.MAX_IMAGE_BYTES} are allowed.", param="image")
