"""Decode HEIC and large AVIF: whole by libheif, or reduced by FFmpeg, tile by tile if the image is tiled.

Phones write pictures as tiles of 512 x 512. One of 200 megapixels takes 1.2 GB whole, and 200 MB in tiles at half size.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import pillow_heif
from av.codec.context import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from inference.media.formats.bare import Unreadable
from inference.media.formats.heif import HeifFile, Item, read_file

#: matrix number of a HEIC's colours (ISO 23091-2) → FFmpeg's colour space
COLOUR_SPACES = {1: Colorspace.ITU709, 5: Colorspace.ITU601, 6: Colorspace.ITU601, 9: Colorspace.BT2020}

#: kind of item → FFmpeg's name of its decoder, and the property that configures that decoder
DECODERS = {b"hvc1": ("hevc", b"hvcC"), b"av01": ("libdav1d", b"av1C")}

# A thread for each tile would take more memory, and the CPU time is limited anyway.
pillow_heif.options.DECODE_THREADS = 1
pillow_heif.options.THUMBNAILS = False
pillow_heif.options.DEPTH_IMAGES = False
pillow_heif.options.AUX_IMAGES = False


@dataclass(frozen=True, slots=True)
class Grid:
    """A picture of equal tiles, row by row from the upper left corner."""

    rows: int
    columns: int
    #: of the picture; the tiles may reach beyond
    width: int
    height: int


def decode_whole(data: bytes, size: tuple[int, int]) -> Image.Image:
    """The picture, turned as its file says. Raises Unreadable if its size is then not the expected one."""
    file = pillow_heif.open_heif(data, convert_hdr_to_8bit=True)
    if file.size != size:
        raise Unreadable
    return file[file.primary_index].to_pillow()


def shown_part(data: bytes, image: Image.Image) -> Image.Image:
    """The visible part of a picture that Pillow has decoded whole. Raises Unreadable."""
    picture = read_file(data).picture
    if image.size != picture.size:
        raise Unreadable
    return image if picture.shown == (0, 0, *image.size) else image.crop(picture.shown)


def decode_reduced(data: bytes, pixels: int) -> Image.Image:
    """The picture as it is stored, not turned, reduced to about ``pixels`` pixels; a tiled one to no fewer.

    Without its alpha. Raises Unreadable where it is made of anything but tiles, or of others than FFmpeg decodes.
    """
    file = read_file(data)
    picture = file.picture
    width, height = picture.size
    ratio = max(1.0, math.sqrt(width * height / pixels))
    if picture.kind == b"grid":
        # Tiles must meet without a gap.
        image, ratio = _join_tiles(file, int(ratio))
    else:
        small = math.ceil(width / ratio), math.ceil(height / ratio)
        image = _TileDecoder(file).decode(picture, _colours(picture), small)
    if picture.shown == (0, 0, width, height):
        return image
    left, top, right, bottom = (side / ratio for side in picture.shown)
    return image.crop((int(left), int(top), math.ceil(right), math.ceil(bottom)))


def _join_tiles(file: HeifFile, most: int) -> tuple[Image.Image, int]:
    """The picture reduced by a whole number up to ``most``, and that number. Raises Unreadable."""
    picture = file.picture
    grid = _grid(file.content(picture))
    tiles = [file.items[number] for number in picture.parts if number in file.items]
    if not tiles or len(tiles) != grid.rows * grid.columns or any(tile.size != tiles[0].size for tile in tiles):
        raise Unreadable
    width, height = tiles[0].size
    if (
        width * grid.columns < grid.width
        or height * grid.rows < grid.height
        or (grid.width, grid.height) != picture.size
    ):
        raise Unreadable
    factor = _divisor(math.gcd(width, height), most)
    whole = Image.new("RGB", (math.ceil(grid.width / factor), math.ceil(grid.height / factor)))
    decoder = _TileDecoder(file)
    for n, tile in enumerate(tiles):
        small = width // factor, height // factor
        decoded = decoder.decode(tile, _colours(picture) or _colours(tile), small)
        whole.paste(decoded, (n % grid.columns * small[0], n // grid.columns * small[1]))
    return whole, factor


def _divisor(number: int, most: int) -> int:
    """The largest divisor that is not more than ``most``."""
    return next(n for n in range(most, 0, -1) if number % n == 0)


def _grid(content: bytes) -> Grid:
    try:
        _, flags, rows, columns = struct.unpack_from(">BBBB", content)
        width, height = struct.unpack_from(">LL" if flags & 1 else ">HH", content, 4)
    except struct.error:
        raise Unreadable from None
    return Grid(rows + 1, columns + 1, width, height)


def _colours(item: Item) -> tuple[Colorspace, ColorRange] | None:
    """The colour information of the file; None if the bitstream has it."""
    for found in item.properties:
        if found.kind == b"colr" and found.content.startswith(b"nclx") and len(found.content) >= 11:
            matrix, is_full = int.from_bytes(found.content[8:10]), found.content[10] >> 7
            return COLOUR_SPACES.get(matrix, Colorspace.ITU601), ColorRange.JPEG if is_full else ColorRange.MPEG
    return None


class _TileDecoder:
    """One for all tiles of a picture that are set up alike: each keeps some megabytes until Python collects it."""

    def __init__(self, file: HeifFile) -> None:
        self._file = file
        self._settings: bytes | None = None
        self._codec: VideoCodecContext | None = None

    def decode(self, tile: Item, colours: tuple[Colorspace, ColorRange] | None, size: tuple[int, int]) -> Image.Image:
        """The tile, reduced to ``size``. Raises Unreadable."""
        codec = self._set_up(tile)
        frames = [*codec.decode(Packet(self._file.content(tile))), *codec.decode(None)]
        codec.flush_buffers()
        if len(frames) != 1 or (frames[0].width, frames[0].height) != tile.size:
            raise Unreadable
        space, range_ = colours or (None, None)
        reduced = frames[0].reformat(*size, "rgb24", src_colorspace=space, src_color_range=range_)
        return Image.fromarray(reduced.to_ndarray())

    def _set_up(self, tile: Item) -> VideoCodecContext:
        name, kind = DECODERS.get(tile.kind, ("", b""))
        settings = tile.said(kind)
        if settings is None or (self._codec is not None and settings != self._settings):
            raise Unreadable
        if self._codec is None:
            codec = CodecContext.create(name, "r")
            if not isinstance(codec, VideoCodecContext):
                raise Unreadable
            codec.thread_count = 1
            codec.extradata = settings
            self._codec, self._settings = codec, settings
        return self._codec
