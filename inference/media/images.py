"""Decode images from people's cameras, scanners and screenshots into plain RGB."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from dataclasses import dataclass

import av.error
import numpy as np
from PIL import Image

from inference.engine.vision import VisionSizes
from inference.errors import InvalidMedia
from inference.media import heic, large, png_rows
from inference.media.formats.bare import BareImage, Unreadable
from inference.media.formats.image import AVIF, HEIC, JPEG, PNG, TIFF, WEBP, ImageFormat, format_of
from inference.media.large import BAND_PIXELS, WHOLE_PIXELS
from inference.media.limits import Limits, check_shape
from inference.media.shared import PixelBuffer, Place, Placed

WHITE = (255, 255, 255, 255)
#: pixels times scans of a progressive JPEG: ten scans of a hundred million pixels take some seconds of CPU
MAX_SCANNED_PIXELS = 1_000_000_000
#: exceptions that Pillow and the other decoders raise for damaged files
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
    av.error.FFmpegError,
    Unreadable,
)
#: EXIF orientation → Pillow's transposition that makes a picture upright
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow's own limit is not needed: the size in the header is checked before Pillow gets the file.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """The properties of a picture that can be decoded."""

    content_type: str
    #: pixels, upright
    width: int
    height: int
    #: without metadata; None where the file has none
    data: bytes | None


def check_image(data: bytes, limits: Limits, param: str | None, sizes: VisionSizes | None = None) -> CheckedImage:
    """Read a picture, as cheaply as its format allows, to see that it can be decoded. Raises as ``decode_image``."""
    file = take_apart(data, limits, param=param)
    width, height = file.upright_size
    _check(file, limits, decoded_pixels(width, height, sizes) if width * height > WHOLE_PIXELS else 1, param)
    return CheckedImage(
        content_type=image_content_type(data, param=param),
        width=width,
        height=height,
        data=file.data if file.data != data else None,
    )


def _check(file: BareImage, limits: Limits, pixels: int, param: str | None) -> None:
    kind = _format(file.data, param)
    row_bytes = png_rows.row_bytes(file) if kind is PNG else None
    if row_bytes is None:
        # A large one as the model will see it at most, so that it takes no more memory when it does.
        _load(file, limits, pixels, param)
        return
    try:
        _opened(file.data, kind, limits, param)
        png_rows.check(file, row_bytes)
    except DECODER_ERRORS:
        raise _damaged(param) from None


def decoded_pixels(width: int, height: int, sizes: VisionSizes | None, enough: int | None = None) -> int:
    """How many pixels of a large picture are decoded at least: those that the model sees, or ``enough``."""
    return sizes.image_pixels[1] if sizes and sizes.reduced(width, height) else enough or WHOLE_PIXELS


def decode_image(
    data: bytes, limits: Limits, param: str | None, sizes: VisionSizes | None = None, *, enough: int | None = None
) -> Image.Image:
    """The (first) picture as RGB, upright, on white where it was transparent.

    One that the model would see smaller is reduced to the size at which it sees it; without ``sizes`` one of more than
    ``WHOLE_PIXELS`` to ``enough`` pixels, or to ``WHOLE_PIXELS``. Raises InvalidMedia where the bytes are no image of
    an accepted format, are cut off or damaged, or are over the limits on pixels and scans (checked from the header,
    before decoding).
    """
    file = take_apart(data, limits, param=param)
    width, height = file.upright_size
    size = sizes.reduced(width, height) if sizes else None
    most = decoded_pixels(width, height, sizes, enough)
    try:
        image = _upright_rgb(_load(file, limits, most, param), file, most)
    except DECODER_ERRORS:
        raise _damaged(param) from None
    if size is None and width * height > WHOLE_PIXELS:
        ratio = (most / (width * height)) ** 0.5
        size = max(1, int(width * ratio)), max(1, int(height * ratio))
    if size is not None:
        image = image.resize(size, Image.Resampling.BICUBIC)
    # Drop everything but the pixels.
    image.info.clear()
    return image


def place_image(
    data: bytes, limits: Limits, param: str | None, sizes: VisionSizes | None, place: Place | None
) -> np.ndarray | Placed:
    """``decode_image`` for another process: the pixels are put into ``place``."""
    image = decode_image(data, limits, param, sizes)
    buffer = PixelBuffer(place)
    pixels = buffer.empty((image.height, image.width, 3))
    pixels[...] = np.asarray(image)
    return buffer.result(pixels)


def _load(file: BareImage, limits: Limits, pixels: int, param: str | None) -> Image.Image:
    """Decode a file. If it is over ``WHOLE_PIXELS``, or ``pixels`` is 1, ``pixels`` pixels are enough."""
    try:
        image = _decode(file.data, file, limits, pixels, param)
        if file.control is not None:
            control = _decode(file.control, file, limits, pixels, param)
            if image.tobytes() != control.tobytes():
                raise Unreadable
        return image
    except DECODER_ERRORS:
        raise _damaged(param) from None


def _decode(data: bytes, file: BareImage, limits: Limits, pixels: int, param: str | None) -> Image.Image:
    kind = _format(data, param)
    is_large = file.width * file.height > WHOLE_PIXELS
    if kind is JPEG and (is_large or pixels == 1):
        return large.load_jpeg(_opened(data, kind, limits, param), pixels)
    if kind is WEBP and is_large:
        return large.decode_webp(data, pixels)
    if kind is PNG and is_large and (bands := large.png_bands(file)) is not None:
        return large.reduce_bands(bands, (file.width, file.height), pixels, _as_rgb)
    if kind in (HEIC, AVIF) and is_large:
        return heic.decode_reduced(data, pixels)
    if kind is HEIC:
        return heic.decode_whole(data, file.upright_size)
    image = _opened(data, kind, limits, param)
    image.load()
    return heic.shown_part(data, image) if kind is AVIF else image


def _upright_rgb(image: Image.Image, file: BareImage, pixels: int) -> Image.Image:
    kind, is_large = format_of(file.data), file.width * file.height > WHOLE_PIXELS
    # Pillow turns a TIFF by itself, and so does libheif.
    if kind is not TIFF and (kind is not HEIC or is_large):
        _turn(image, file.orientation)
    if image.width * image.height <= WHOLE_PIXELS or (image.mode == "RGB" and "transparency" not in image.info):
        return _as_rgb(image)
    as_rgb = functools.partial(_as_rgb, highest=_highest(image))
    return large.reduce_bands(large.image_bands(image), image.size, max(pixels, BAND_PIXELS), as_rgb)


def take_apart(data: bytes, limits: Limits, *, param: str | None) -> BareImage:
    """The picture without metadata, its claims checked. Raises InvalidMedia as ``decode_image`` does."""
    try:
        file = _format(data, param).bare(data)
    except Unreadable:
        raise _damaged(param) from None
    if min(file.width, file.height) < 1:
        raise _damaged(param)
    check_shape(file.width, file.height, limits, kind="image", param=param)
    if file.scans > 1 and file.scans * file.width * file.height > MAX_SCANNED_PIXELS:
        raise InvalidMedia(
            f"The image is made of {file.scans} scans, too many for its size; save it as a baseline JPEG.", param=param
        )
    if file.scans > limits.image_scans:
        raise InvalidMedia(
            f"The image is made of more than {limits.image_scans} scans; save it as a baseline JPEG.", param=param
        )
    if file.buffered_bytes > limits.memory_bytes // 2:
        raise InvalidMedia(
            "The image is too large for a progressive JPEG, which needs memory for all of it; "
            "save it as a baseline JPEG.",
            param=param,
        )
    return file


def header_size(data: bytes, *, param: str | None) -> tuple[int, int]:
    """(width, height) from the header, at little cost. Raises InvalidMedia if the header has none."""
    try:
        width, height = _format(data, param).size(data)
    except Unreadable:
        raise _damaged(param) from None
    if min(width, height) < 1:
        raise _damaged(param)
    return width, height


def image_content_type(data: bytes, *, param: str | None) -> str:
    """The content type that the first bytes show. Raises InvalidMedia where it is no accepted format."""
    return _format(data, param).content_type


def _format(data: bytes, param: str | None) -> ImageFormat:
    if not data:
        raise InvalidMedia("The image is empty (0 bytes).", param=param)
    found = format_of(data)
    if found is None:
        raise InvalidMedia(
            "This is not an image in an accepted format. "
            "Accepted formats: PNG, JPEG, WebP, HEIC, AVIF, GIF, BMP and TIFF.",
            param=param,
        )
    return found


def _damaged(param: str | None) -> InvalidMedia:
    return InvalidMedia("The image is damaged or cut off.", param=param)


def _opened(data: bytes, kind: ImageFormat, limits: Limits, param: str | None) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=[kind.name])
    # Our parser and Pillow may disagree about the size, so Pillow's is checked too.
    check_shape(*image.size, limits, kind="image", param=param)
    return image


def _turn(image: Image.Image, orientation: int) -> None:
    """Make it upright in place, by its EXIF orientation."""
    if orientation in TURNS:
        image.im = image.im.transpose(TURNS[orientation])
        image._size = image.im.size


def _as_rgb(image: Image.Image, highest: float | None = None) -> Image.Image:
    """``highest`` is the highest value of the whole picture where this is a part of it."""
    if image.mode.startswith("I;16"):
        return _from_grey(np.asarray(image).astype(np.uint16) >> 8)
    if image.mode in ("I", "F"):
        return _from_grey(_to_bytes(np.asarray(image), highest))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, WHITE), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _highest(image: Image.Image) -> float | None:
    """The highest value of a 32-bit greyscale picture; None for other modes."""
    if image.mode not in ("I", "F"):
        return None
    parts = (np.asarray(band) for band in large.image_bands(image))
    return max(float(np.nan_to_num(part, nan=0.0, posinf=65535.0, neginf=0.0).max()) for part in parts)


def _finite(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values.astype(np.float64), copy=False, nan=0.0, posinf=65535.0, neginf=0.0)


def _to_bytes(values: np.ndarray, highest: float | None) -> np.ndarray:
    """Greyscale of 32 bits brought to 0..255 by the range it uses: unit floats, 8 bits or 16 bits."""
    fractions = values.dtype.kind == "f"
    values = _finite(values)
    highest = values.max() if highest is None else highest
    if fractions and highest <= 1.0:
        values *= 255.0
    elif highest > 255.0:
        values /= 257.0
    return values.clip(0.0, 255.0, out=values).round(out=values)


def _from_grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")
