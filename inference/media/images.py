"""Decode images from people's cameras, scanners and screenshots into plain RGB."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

from inference.errors import InvalidMedia
from inference.media.formats.bare import BareImage, Unreadable
from inference.media.formats.image import ImageFormat, format_of
from inference.media.limits import Limits, check_shape

WHITE = (255, 255, 255, 255)
#: what Pillow's parsers let out when they stumble over damaged bytes
DECODER_ERRORS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
    Unreadable,
)

# Set once, here where all decoding is: what a header may claim is checked before Pillow sees the file.
Image.MAX_IMAGE_PIXELS = None


def decode_image(data: bytes, limits: Limits, *, param: str | None) -> Image.Image:
    """The (first) picture as RGB, upright, on white where it was transparent.

    Raises InvalidMedia where the bytes are no image of an accepted format, are cut off or damaged, or are over the
    limits on pixels and scans (checked from the header, before decoding).
    """
    return decode_bare(take_apart(data, limits, param=param), limits, param=param)


def decode_bare(file: BareImage, limits: Limits, *, param: str | None) -> Image.Image:
    """As ``decode_image``, of a file that was taken apart."""
    try:
        image = _loaded(file.data, limits, param)
        if file.control is not None and image.tobytes() != _loaded(file.control, limits, param).tobytes():
            raise Unreadable
        ImageOps.exif_transpose(image, in_place=True)
        return _as_rgb(image)
    except DECODER_ERRORS:
        raise _damaged(param) from None


def take_apart(data: bytes, limits: Limits, *, param: str | None) -> BareImage:
    """The picture without metadata, its claims checked. Raises InvalidMedia as ``decode_image`` does."""
    try:
        file = _format(data, param).bare(data)
    except Unreadable:
        raise _damaged(param) from None
    if min(file.width, file.height) < 1:
        raise _damaged(param)
    check_shape(file.width, file.height, limits, kind="image", param=param)
    if file.scans > limits.image_scans:
        raise InvalidMedia(
            f"The image is made of more than {limits.image_scans} scans; save it as a plain JPEG.", param=param
        )
    return file


def image_content_type(data: bytes, *, param: str | None) -> str:
    """The content type that the first bytes show. Raises InvalidMedia where it is no accepted format."""
    return _format(data, param).content_type


def _format(data: bytes, param: str | None) -> ImageFormat:
    if not data:
        raise InvalidMedia("The image is empty (0 bytes).", param=param)
    found = format_of(data)
    if found is None:
        raise InvalidMedia(
            "This is not an image that can be read. Accepted formats: PNG, JPEG, WebP, GIF, BMP and TIFF.",
            param=param,
        )
    return found


def _damaged(param: str | None) -> InvalidMedia:
    return InvalidMedia("The image is damaged or cut off.", param=param)


def _loaded(data: bytes, limits: Limits, param: str | None) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=[_format(data, param).name])
    # A header that says one thing to us and another to Pillow.
    check_shape(*image.size, limits, kind="image", param=param)
    image.load()
    return image


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _from_grey(np.asarray(image).astype(np.uint16) >> 8)
    if image.mode in ("I", "F"):
        return _from_grey(_to_bytes(np.asarray(image)))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, WHITE), rgba).convert("RGB")
    return image.convert("RGB")


def _to_bytes(values: np.ndarray) -> np.ndarray:
    """Greyscale of 32 bits brought to 0..255 by the range it uses: unit floats, 8 bits or 16 bits."""
    fractions = values.dtype.kind == "f"
    values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=65535.0, neginf=0.0)
    highest = values.max()
    if fractions and highest <= 1.0:
        values = values * 255.0
    elif highest > 255.0:
        values = values / 257.0
    return values.clip(0.0, 255.0).round()


def _from_grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")
