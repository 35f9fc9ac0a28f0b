"""Prepare the picture of a card for the database and the model: upright, RGB, no metadata, limited in size."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from dataclasses import dataclass

from django.conf import settings
from PIL import Image

from inference.errors import TooLarge
from inference.media.decode import finished, submit_image
from inference.media.formats.image import format_of
from inference.media.images import decode_image, image_content_type
from inference.media.large import WHOLE_PIXELS
from inference.media.limits import Limits, check_shape
from inference.media.threads import in_thread
from ocr import scans
from ocr.quality import Quality, measure

#: pixels; an ID-1 card of this width has 600 dots per inch, more than any print; more pixels do not improve reading
MAX_SIDE = 2048
JPEG_QUALITY = 92
#: quarter turns to the right → Pillow's transposition
QUARTER_TURNS = {1: Image.Transpose.ROTATE_270, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_90}


@dataclass(frozen=True, slots=True)
class CardImage:
    """An image ready to be stored and read."""

    content_type: str
    width: int
    height: int
    data: bytes = dataclasses.field(repr=False)
    #: number of pages of the document that the picture comes from
    pages: int = 1
    #: measures of the picture; None for a stored picture that is read again
    quality: Quality | None = None
    kind: str = "image"
    param: str = "image"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


async def make_ready(data: bytes, *, page: int = 1, turn: int = 0) -> CardImage:
    """Run ``prepare`` in a decoding process, for a PDF on its page ``page``.

    ``turn`` is the number of quarter turns to the right. Raises TooLarge, InvalidMedia, and Unavailable if no decoding
    process becomes free in time.
    """
    check_size(len(data))
    is_pdf = format_of(data) is None and scans.is_pdf(data)
    pixels = WHOLE_PIXELS if is_pdf else None
    # On a thread, because parsing a malicious header may take some milliseconds.
    submitted = await in_thread(submit_image, prepare, data, param="image", more=(page, turn), pixels=pixels)
    return await finished(submitted)


def prepare(data: bytes, limits: Limits, param: str | None = "image", page: int = 1, turn: int = 0) -> CardImage:
    """Decode the upload and encode it again: PNG stays PNG, everything else becomes JPEG.

    This removes EXIF, with its location and device. Takes some 100 ms of CPU for a phone's photo, so it runs in a
    decoding process. Raises InvalidMedia if it is not an image.
    """
    pages = 1
    if format_of(data) is None and scans.is_pdf(data):
        image, pages = scans.page_picture(data, page, limits, param)
        content_type = "image/jpeg"
    else:
        image = decode_image(data, limits, param, enough=MAX_SIDE**2)
        is_png = image_content_type(data, param=param) == "image/png"
        content_type = "image/png" if is_png else "image/jpeg"
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    if turn % 4:
        image = image.transpose(QUARTER_TURNS[turn % 4])
    # Rounding may have made a long strip longer than the limit of the model.
    check_shape(*image.size, limits, kind="image", param=param)
    # Pillow would write these into the file: ICC profiles, comments, text chunks.
    image.info.clear()
    quality = measure(image)
    encoded = io.BytesIO()
    if content_type == "image/png":
        image.save(encoded, "PNG")
    else:
        image.save(encoded, "JPEG", quality=JPEG_QUALITY)
    return CardImage(content_type, image.width, image.height, encoded.getvalue(), pages, quality)


def check_size(size: int) -> None:
    """Raises TooLarge for an upload of more than ``OCR_MAX_UPLOAD_BYTES``."""
    most = settings.OCR_MAX_UPLOAD_BYTES
    if size > most:
        raise TooLarge(
            f"The file has {size} bytes; at most {most} are allowed. Save the picture at a lower quality or size.",
            param="image",
        )
