"""Tell the format of a picture by its first bytes, and take it apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from inference.media.formats import bmp, gif, heif, jpeg, png, tiff, webp
from inference.media.formats.bare import BareImage


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """An accepted format."""

    #: Pillow's name of it
    name: str
    content_type: str
    #: takes a file apart; raises Unreadable
    bare: Callable[[bytes], BareImage]
    #: (width, height) as stored, from the header alone and at little cost; raises Unreadable
    size: Callable[[bytes], tuple[int, int]]


JPEG = ImageFormat("JPEG", "image/jpeg", jpeg.bare, jpeg.size)
PNG = ImageFormat("PNG", "image/png", png.bare, png.size)
GIF = ImageFormat("GIF", "image/gif", gif.bare, gif.size)
BMP = ImageFormat("BMP", "image/bmp", bmp.bare, bmp.size)
TIFF = ImageFormat("TIFF", "image/tiff", tiff.bare, tiff.size)
WEBP = ImageFormat("WEBP", "image/webp", webp.bare, webp.size)
HEIC = ImageFormat("HEIF", "image/heic", heif.bare, heif.size)
AVIF = ImageFormat("AVIF", "image/avif", heif.bare, heif.size)
#: TIFF is also known by a magic number in the wrong byte order, as some writers have it
FIRST_BYTES = {
    b"\xff\xd8\xff": JPEG,
    png.SIGNATURE: PNG,
    b"GIF87a": GIF,
    b"GIF89a": GIF,
    b"BM": BMP,
    **dict.fromkeys((b"II*\0", b"II\0*", b"II+\0", b"MM\0*", b"MM*\0", b"MM\0+"), TIFF),
}


def format_of(data: bytes) -> ImageFormat | None:
    """The format that the bytes begin like; None where it is not an accepted one."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WEBP
    if named := heif.brands(data):
        return AVIF if named & heif.AVIF_BRANDS else HEIC if named & heif.HEIC_BRANDS else None
    return next((found for magic, found in FIRST_BYTES.items() if data.startswith(magic)), None)
