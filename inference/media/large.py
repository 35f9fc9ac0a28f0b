"""Decode what is too large to be decoded whole: at a reduced size, or band by band."""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Callable, Iterator

from av.codec.context import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from PIL import Image

from inference.media import png_rows
from inference.media.formats import png
from inference.media.formats.bare import BareImage, Unreadable

#: a picture of up to this many pixels (50 MB) is decoded whole
WHOLE_PIXELS = 2**24
#: pixels of a band of rows
BAND_PIXELS = 2**22
#: pixels of a band of a PNG, of which there are several copies while it is decoded
PNG_BAND_PIXELS = 2**20
#: the rows of a band are a multiple of this number, which most small factors divide
EVEN_ROWS = 60
#: colour type → Pillow's mode, for 8 bits: the rows that Pillow gives are those of the file, byte for byte
PNG_MODES = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}


def load_jpeg(image: Image.Image, pixels: int) -> Image.Image:
    """Decode an opened JPEG at the smallest of libjpeg's scales (1, 1/2, 1/4, 1/8) with at least ``pixels`` pixels."""
    ratio = max(1.0, math.sqrt(image.width * image.height / pixels))
    image.draft(None, (max(1, int(image.width / ratio)), max(1, int(image.height / ratio))))
    image.load()
    return image


def decode_webp(data: bytes, pixels: int) -> Image.Image:
    """Decode with FFmpeg, which needs a fourth of libwebp's memory. Raises Unreadable for animations."""
    codec = CodecContext.create("webp", "r")
    if not isinstance(codec, VideoCodecContext):
        raise Unreadable
    codec.thread_count = 1
    frames = [*codec.decode(Packet(data)), *codec.decode(None)]
    if len(frames) != 1:
        raise Unreadable
    frame = frames[0]
    ratio = max(1.0, math.sqrt(frame.width * frame.height / pixels))
    size = max(1, int(frame.width / ratio)), max(1, int(frame.height / ratio))
    mode = "RGBA" if "a" in frame.format.name else "RGB"
    packed = frame.to_ndarray(width=size[0], height=size[1], format=mode.lower() + ("24" if mode == "RGB" else ""))
    return Image.fromarray(packed)


def png_bands(file: BareImage) -> Iterator[Image.Image] | None:
    """A PNG's bands of rows from the top, or None where it must be decoded whole."""
    depth, colour = file.data[24:26]
    stride = png_rows.row_bytes(file)
    if depth != 8 or stride is None:
        return None
    return _png_bands(file, PNG_MODES[colour], stride)


def png_pixels(data: bytes, width: int, height: int, pixels: int) -> int:
    """How many pixels are in memory at once while a PNG of this header is reduced to ``pixels``."""
    depth, *_, interlaced = data[24:29]
    if depth != 8 or interlaced or width * height <= WHOLE_PIXELS:
        return width * height
    return width * height // _factor(width, height, pixels) ** 2 + PNG_BAND_PIXELS


def _png_bands(file: BareImage, mode: str, stride: int) -> Iterator[Image.Image]:
    before = bytes(stride - 1)
    chunks = list(png.chunks(file.data))
    header = next(content for kind, content, _ in chunks if kind == b"IHDR")
    head = [png.chunk(*each) for each in chunks if each[0] in (b"PLTE", b"tRNS")]
    for group in png_rows.groups(file, stride, max(1, PNG_BAND_PIXELS // file.width)):
        band = _small_png(header, head, before, group, len(group) // stride)
        before = band.crop((0, band.height - 1, file.width, band.height)).tobytes()
        yield band


def _small_png(header: bytes, head: list[bytes], before: bytes, filtered: bytes, rows: int) -> Image.Image:
    """Rows filtered relative to the row before them: that row is put above them, unfiltered, and cropped off again."""
    pixels = zlib.compress(b"\0" + before + filtered, 0)
    parts = [
        png.SIGNATURE,
        png.chunk(b"IHDR", header[:4] + (rows + 1).to_bytes(4) + header[8:]),
        *head,
        # No decoder checks this checksum, and computing it would take as long as the rest.
        png.chunk(b"IDAT", pixels, 0),
        png.chunk(b"IEND", b""),
    ]
    image = Image.open(io.BytesIO(b"".join(parts)), formats=["PNG"])
    image.load()
    return image.crop((0, 1, image.width, rows + 1))


def image_bands(image: Image.Image) -> Iterator[Image.Image]:
    """The bands of a picture that is already decoded."""
    # A multiple of most factors by which rows are reduced.
    rows = max(1, BAND_PIXELS // image.width // EVEN_ROWS) * EVEN_ROWS
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def reduce_bands(
    bands: Iterator[Image.Image], size: tuple[int, int], pixels: int, as_rgb: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """Join the bands of a picture of ``size``, reduced by a whole factor to no fewer than ``pixels``."""
    width, height = size
    factor = _factor(width, height, pixels)
    whole = Image.new("RGB", (math.ceil(width / factor), math.ceil(height / factor)))
    top, rest = 0, None
    for band in bands:
        if band.mode in ("I", "F") and band.height % factor == 0:
            # Reduced before the conversion: these modes have four bytes per value.
            whole.paste(as_rgb(band.reduce(factor)), (0, top // factor))
            top += band.height
            continue
        rgb = as_rgb(band)
        if rest is not None:
            # Rows left over from the previous band, too few to be reduced.
            joined = Image.new("RGB", (width, rest.height + rgb.height))
            joined.paste(rest)
            joined.paste(rgb, (0, rest.height))
            rgb, rest = joined, None
        even = rgb.height // factor * factor
        if even < rgb.height:
            rest = rgb.crop((0, even, width, rgb.height))
            rgb = rgb.crop((0, 0, width, even))
        if even:
            whole.paste(rgb.reduce(factor) if factor > 1 else rgb, (0, top // factor))
            top += even
    if rest is not None:
        whole.paste(rest.reduce(factor), (0, top // factor))
    return whole


def _factor(width: int, height: int, pixels: int) -> int:
    """The whole factor by which both sides can be divided so that at least ``pixels`` pixels are left."""
    return max(1, math.isqrt(width * height // pixels))
