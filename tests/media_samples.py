"""Small images and videos, made when a test asks for them."""

from __future__ import annotations

import io
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pillow_heif
from PIL import Image

#: grey of frame n of a sample video is this times n, so that a picked frame tells its number
GREY_STEP = 8


def image_bytes(
    size: tuple[int, int] = (8, 6),
    *,
    mode: str = "RGB",
    color: Any = "red",
    format: str = "PNG",  # noqa: A002 - Pillow's own name
    **options: Any,
) -> bytes:
    """One plain picture as a file."""
    return encode_image(Image.new(mode, size, color), format=format, **options)


def encode_image(image: Image.Image, *, format: str = "PNG", **options: Any) -> bytes:  # noqa: A002
    """A picture as a file."""
    target = io.BytesIO()
    image.save(target, format=format, **options)
    return target.getvalue()


def heic_bytes(image: Image.Image, *, tile: int = 0, **options: Any) -> bytes:
    """A picture as phones write it; with ``tile`` in tiles of that size."""
    target = io.BytesIO()
    pillow_heif.options.GRID_TILE_SIZE = tile
    try:
        pillow_heif.from_pillow(image).save(target, **options)
    finally:
        pillow_heif.options.GRID_TILE_SIZE = 0
    return target.getvalue()


def pdf_bytes(*pages: Image.Image, dots_an_inch: int = 150) -> bytes:
    """A scan with these pages."""
    target = io.BytesIO()
    pages[0].save(target, "PDF", save_all=True, append_images=pages[1:], resolution=dots_an_inch)
    return target.getvalue()


def video_bytes(
    *,
    frames: int = 20,
    rate: int | Fraction = 10,
    size: tuple[int, int] = (64, 48),
    container: str = "mp4",
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    stamps: list[int] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> bytes:
    """A video whose frame n is plain grey of level n * GREY_STEP (modulo 256).

    ``stamps`` gives the frames' times in milliseconds, for an uneven frame rate.
    """
    with tempfile.NamedTemporaryFile() as file:
        # A real file: moving the index of an MP4 to its head means opening it again by name.
        with av.open(file.name, "w", format=container, options=container_options or {}) as output:
            _write_greys(output, frames, rate, size, codec, pixel_format, stamps, options)
        return Path(file.name).read_bytes()


def _write_greys(
    output: av.container.OutputContainer,
    frames: int,
    rate: int | Fraction,
    size: tuple[int, int],
    codec: str,
    pixel_format: str,
    stamps: list[int] | None,
    options: dict[str, str] | None,
) -> None:
    width, height = size
    stream = output.add_stream(codec, rate=rate, options=options or {})
    stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
    if stamps is not None:
        stream.codec_context.time_base = Fraction(1, 1000)
    for n in range(frames):
        level = n * GREY_STEP % 256
        frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), level, np.uint8), format="rgb24")
        if stamps is not None:
            frame.pts, frame.time_base = stamps[n], Fraction(1, 1000)
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def sound_bytes() -> bytes:
    """An MP4 with sound and no picture."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        frame.pts = 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return target.getvalue()


def numbers_of(frames: np.ndarray) -> list[int]:
    """The numbers of a sample video's frames, read back from their greys."""
    return [round(float(frame.mean()) / GREY_STEP) for frame in frames]


def turned_video_bytes() -> bytes:
    """A 64 x 48 MP4, black on the left, white on the right, that asks to be turned clockwise by 90 degrees."""
    target = io.BytesIO()
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, 32:] = 255
    with av.open(target, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(4):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    data = bytearray(target.getvalue())
    # The track header holds a 3 x 3 matrix of 32-bit numbers, 40 bytes behind its four flag bytes.
    matrix = data.index(b"tkhd") + 4 + 40
    for n, value in enumerate([0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30]):
        data[matrix + 4 * n : matrix + 4 * n + 4] = value.to_bytes(4, signed=True)
    return bytes(data)


def shorter_by_edit_list(data: bytes, part: float) -> bytes:
    """An MP4 whose edit list shows only so much of it."""
    changed = bytearray(data)
    at = changed.index(b"elst") + 12
    length = int.from_bytes(changed[at : at + 4])
    changed[at : at + 4] = int(length * part).to_bytes(4)
    return bytes(changed)


def with_empty_last_sample(data: bytes) -> bytes:
    """An MP4 whose last sample has no bytes, as cameras write one that only lasts."""
    changed = bytearray(data)
    at = changed.index(b"stsz")
    count = int.from_bytes(changed[at + 12 : at + 16])
    last = at + 16 + 4 * (count - 1)
    changed[last : last + 4] = bytes(4)
    return bytes(changed)


def claiming_samples(count: int) -> bytes:
    """An MP4 whose index names ``count`` samples of one size, in one chunk."""
    data = bytearray(video_bytes(frames=2))
    for box, place in ((b"stsz", 12), (b"stts", 12), (b"stsc", 16)):
        at = data.index(box) + place
        data[at : at + 4] = count.to_bytes(4)
    size = data.index(b"stsz") + 8
    data[size : size + 4] = (1).to_bytes(4)
    return bytes(data)


def cover_bytes(*, film: bool) -> bytes:
    """An MP4 with sound and a cover picture, and with or without a film behind them."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as output:
        cover = output.add_stream("mjpeg")
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        sound = output.add_stream("aac", rate=16000, layout="mono")
        if film:
            stream = output.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        output.start_encoding()
        output.mux(cover.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 200, np.uint8), format="rgb24")))
        output.mux(cover.encode(None))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate, frame.pts = 16000, 0
        output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
        for n in range(20 if film else 0):
            grey = np.full((48, 64, 3), n * GREY_STEP, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        if film:
            output.mux(stream.encode(None))
    return target.getvalue()


def progressive_bomb(scans: int, size: tuple[int, int] = (400, 400)) -> bytes:
    """A small JPEG that goes over its pixels so many times."""
    data = image_bytes(size, format="JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + b"\xff\xd9"


def in_a_movie(packet: bytes, size: tuple[int, int], *, container: str = "mov") -> bytes:
    """A video of two frames, each this JPEG."""
    target = io.BytesIO()
    with av.open(target, "w", format=container) as output:
        stream = output.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = *size, "yuvj420p"
        for n in range(2):
            frame = av.Packet(packet)
            frame.stream, frame.pts, frame.dts, frame.is_keyframe = stream, n, n, True
            output.mux(frame)
    return target.getvalue()
