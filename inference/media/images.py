"""Decode images from people's cameras, scanners and screenshots into plain RGB."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from django.conf import settings
from PIL import Image, ImageOps

from inference.errors import InvalidMedia

#: Pillow's name of each format accepted → content type; MPO is a JPEG with a second picture behind it
CONTENT_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
}
#: Pillow opens an MPO through its JPEG reader
OPENED_AS = [name for name in CONTENT_TYPES if name != "MPO"]
#: Qwen's processors refuse anything longer
MAX_ASPECT_RATIO = 200
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
    Image.DecompressionBombError,
)


def decode_image(data: bytes, *, param: str | None) -> Image.Image:
    """The (first) picture as RGB, upright, on white where it was transparent.

    Raises InvalidMedia where the bytes are no image of an accepted format, are cut off or damaged, or hold
    more than ``MAX_IMAGE_PIXELS`` pixels (checked from the header, before decoding).
    """
    image = _open(data, param)
    try:
        image.load()
        return _as_rgb(_upright(image))
    except DECODER_ERRORS:
        raise InvalidMedia("The image is damaged or cut off.", param=param) from None


def image_content_type(data: bytes, *, param: str | None) -> str:
    """The content type that the bytes themselves show. Raises InvalidMedia as ``decode_image`` does."""
    return CONTENT_TYPES[_open(data, param).format or ""]


def check_shape(width: int, height: int, *, kind: str, param: str | None) -> None:
    """Refuse pictures and frames that are too large to decode or too long and thin for the model."""
    if width * height > settings.MAX_IMAGE_PIXELS:
        raise InvalidMedia(
            f"The {kind} has {width} x {height} pixels; at most {settings.MAX_IMAGE_PIXELS} pixels are allowed.",
            param=param,
        )
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise InvalidMedia(
            f"The {kind} is too long and thin ({width} x {height}): "
            f"one side may be at most {MAX_ASPECT_RATIO} times the other.",
            param=param,
        )


def _open(data: bytes, param: str | None) -> Image.Image:
    if not data:
        raise InvalidMedia("The image is empty (0 bytes).", param=param)
    try:
        image = Image.open(io.BytesIO(data), formats=OPENED_AS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InvalidMedia(
            f"The image has too many pixels; at most {settings.MAX_IMAGE_PIXELS} are allowed.", param=param
        ) from None
    except DECODER_ERRORS:
        image = None
    if image is None or image.format not in CONTENT_TYPES or min(image.size) < 1:
        raise InvalidMedia(
            "This is not an image that can be read. Accepted formats: PNG, JPEG, WebP, GIF, BMP and TIFF.",
            param=param,
        )
    check_shape(*image.size, kind="image", param=param)
    return image


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except DECODER_ERRORS:  # a damaged EXIF block says nothing about the pixels
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
