"""Pictures and videos that are small as files, and large or long when they are decoded."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image

from tests.media_samples import (
    claiming_samples,
    cover_bytes,
    image_bytes,
    in_a_movie,
    progressive_bomb,
    video_bytes,
)

SAMPLES = 80_000_000


@functools.cache
def plain(size: tuple[int, int], file_format: str, mode: str = "RGB", **options: Any) -> bytes:
    """A picture with a single colour."""
    color = 0.5 if mode == "F" else 99 if mode == "L" else "red"
    return image_bytes(size, mode=mode, color=color, format=file_format, **options)


def webp_50mp() -> bytes:
    return plain((8165, 6124), "WEBP", lossless=True)


def float_tiff() -> bytes:
    """81 megapixels of fractions in some 300 KB."""
    return plain((9000, 9000), "TIFF", "F", compression="tiff_adobe_deflate")


def lzw_tiff() -> bytes:
    return plain((8000, 6000), "TIFF", compression="tiff_lzw")


def scans_jpeg(scans: int = 1000, size: tuple[int, int] = (5000, 4000)) -> bytes:
    return progressive_bomb(scans, size)


def scans_movie(container: str) -> bytes:
    return in_a_movie(scans_jpeg(), (5000, 4000), container=container)


def many_samples() -> bytes:
    return claiming_samples(SAMPLES)


def many_sound_samples() -> bytes:
    data = bytearray(cover_bytes(film=True))
    sound = data.index(b"smhd")
    for box in (b"stsz", b"stts"):
        at = data.index(box, sound) + 12
        data[at : at + 4] = SAMPLES.to_bytes(4)
    return bytes(data)


def many_fragment_samples() -> bytes:
    """A fragment that claims more samples than any file could hold."""
    data = bytearray(video_bytes(frames=4, container_options={"movflags": "frag_every_frame+empty_moov"}))
    at = data.index(b"trun") + 8
    data[at : at + 4] = SAMPLES.to_bytes(4)
    return bytes(data)


def many_boxes() -> bytes:
    return video_bytes(frames=2) + b"\0\0\0\x08free" * 2_000_000


def text_png(megabytes: int = 100) -> bytes:
    """A small picture with a compressed text that decompresses to this many megabytes."""
    packed = zlib.compress(bytes(megabytes * 10**6), 9)
    chunk = b"zTXt" + b"Comment\0\0" + packed
    data = image_bytes((64, 64))
    return data[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]


def large_frames() -> bytes:
    """A minute of twenty 4K frames with one key frame: to show its last, all have to be decoded."""
    return video_bytes(
        frames=20, rate=Fraction(1, 3), size=(3840, 2160), options={"preset": "ultrafast", "g": "100000"}
    )


def many_packets(count: int = 20_000) -> bytes:
    """Many small frames in one video."""
    return video_bytes(
        frames=count, rate=120, size=(32, 32), container="matroska", options={"preset": "ultrafast", "g": "100000"}
    )


@functools.cache
def photo(number: int = 0) -> bytes:
    """A photograph of twelve megapixels, as a telephone takes it: about 2 MB."""
    small = np.random.default_rng(number).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    target = io.BytesIO()
    Image.fromarray(small).resize((4000, 3000), Image.Resampling.BICUBIC).save(target, "JPEG", quality=85)
    return target.getvalue()
