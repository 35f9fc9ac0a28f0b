"""Large pictures are decoded in little memory, at the size at which the model sees them, and bombs are refused."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
from typing import Any

import numpy as np
import pytest
from django.test import override_settings
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inference.engine.torchvision_compat import declare_missing_operators
from inference.engine.vision import ModelVision, VisionSizes
from inference.errors import InvalidMedia, InvalidRequest
from inference.media import decode, images, large
from inference.media.decoding import DecodingPool
from inference.media.images import decode_image, take_apart
from inference.media.limits import media_limits
from inference.media.load import load_all
from inference.media.parts import MediaKind, MediaSource
from tests.media_samples import encode_image, image_bytes, in_a_movie, progressive_bomb, video_bytes

NOISE = Image.fromarray(np.random.default_rng(3).integers(0, 256, (130, 170, 3), dtype=np.uint8))
#: something between noise and a photograph
PICTURE = NOISE.resize((17, 13)).resize((170, 130), Image.Resampling.BICUBIC)
SIZES = VisionSizes(32, 2, (4 * 1024, 64 * 1024), (8 * 1024, 256 * 1024))


@pytest.fixture
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything from some hundred pixels on is decoded as large pictures are."""
    monkeypatch.setattr(images, "WHOLE_PIXELS", 2000)
    monkeypatch.setattr(images, "BAND_PIXELS", 500)
    monkeypatch.setattr(large, "BAND_PIXELS", 500)
    monkeypatch.setattr(large, "PNG_BAND_PIXELS", 500)


def source(kind: MediaKind, data: bytes, n: int = 0) -> MediaSource:
    return MediaSource(kind, f"messages[0].content[{n}]", base64.b64encode(data).decode(), "base64")


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "LA", "RGBA"])
def test_a_png_read_in_bands_has_the_pixels_of_the_whole(mode: str, small_is_large: None) -> None:
    data = encode_image(NOISE.convert(mode))
    bands = large.png_bands(take_apart(data, media_limits(), param=None))
    assert bands is not None
    parts = list(bands)
    assert len(parts) > 10
    assert np.array_equal(np.concatenate([np.asarray(part) for part in parts]), np.asarray(NOISE.convert(mode)))


def test_a_png_that_ends_inside_its_bands_is_refused(small_is_large: None) -> None:
    data = encode_image(NOISE)
    for part in (0.2, 0.5, 0.9):
        with pytest.raises(InvalidMedia, match="damaged or cut off"):
            decode_image(data[: int(len(data) * part)], media_limits(), None)


@pytest.mark.parametrize(
    ("mode", "file_format", "options"),
    [
        ("RGB", "PNG", {}),
        ("P", "PNG", {}),
        ("LA", "PNG", {}),
        ("I;16", "PNG", {}),
        ("1", "PNG", {}),
        ("RGB", "JPEG", {}),
        ("CMYK", "JPEG", {}),
        ("L", "JPEG", {"progressive": True}),
        ("RGB", "WEBP", {}),
        ("RGBA", "WEBP", {"lossless": True}),
        ("P", "GIF", {}),
        ("RGB", "BMP", {}),
        ("RGB", "TIFF", {}),
        ("RGB", "TIFF", {"compression": "tiff_lzw"}),
        ("F", "TIFF", {}),
        ("I", "TIFF", {}),
    ],
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_picture_looks_as_if_it_had_been_decoded_whole(
    mode: str, file_format: str, options: dict[str, Any], orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned: dict[str, Any] = {} if file_format in ("GIF", "BMP") else {"exif": exif}
    picture = PICTURE.convert("L").convert("I").convert(mode) if mode == "I;16" else PICTURE.convert(mode)
    data = encode_image(picture, format=file_format, **options, **turned)
    whole = decode_image(data, media_limits(), None)
    monkeypatch.setattr(images, "WHOLE_PIXELS", 4000)
    monkeypatch.setattr(images, "BAND_PIXELS", 500)
    monkeypatch.setattr(large, "BAND_PIXELS", 500)
    monkeypatch.setattr(large, "PNG_BAND_PIXELS", 500)
    reduced = decode_image(data, media_limits(), None)
    assert 3000 < reduced.width * reduced.height <= 4000
    expected = whole.resize(reduced.size, Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(reduced, int) - np.asarray(expected, int)).mean() < 6


SIDE = st.integers(1, 5000)


@settings(max_examples=300, deadline=None)
@given(width=SIDE, height=SIDE, frames=st.integers(2, 40), factor=st.sampled_from([28, 32]))
def test_sizes_and_tokens_are_those_of_the_processors(width: int, height: int, frames: int, factor: int) -> None:
    declare_missing_operators()
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize as smart_resize_video

    if max(width, height) > 200 * min(width, height):
        return
    sizes = VisionSizes(factor, 2, (3000, 500_000), (9000, 900_000))
    rows, columns = smart_resize(height, width, factor, 3000, 500_000)
    assert sizes.image_size(width, height) == (columns, rows)
    assert sizes.image_tokens(width, height) == rows * columns // factor**2
    try:
        rows, columns = smart_resize_video(frames, height, width, 2, factor, 9000, 900_000)
    except ValueError:  # too long after it was made wide enough
        return
    assert sizes.video_tokens(frames, width, height) == (frames + 1) // 2 * rows * columns // factor**2


@settings(max_examples=200, deadline=None)
@given(width=st.integers(1, 9000), height=st.integers(1, 9000))
def test_what_is_reduced_beforehand_comes_out_at_the_same_size(width: int, height: int) -> None:
    for sizes in (SIZES, VisionSizes(16, 2, (158976, 170496), (8192, 262144))):
        reduced = sizes.reduced(width, height)
        if reduced is not None:
            assert width * height > sizes.image_pixels[1]
            assert sizes.image_size(*reduced) == sizes.image_size(width, height) == reduced


def test_a_picture_that_the_model_sees_smaller_is_decoded_at_that_size() -> None:
    data = encode_image(PICTURE.resize((1200, 900)), format="JPEG")
    whole = decode_image(data, media_limits(), None)
    assert whole.size == (1200, 900)
    seen = decode_image(data, media_limits(), None, SIZES)
    assert seen.size == SIZES.image_size(1200, 900)
    assert np.array_equal(np.asarray(seen), np.asarray(whole.resize(seen.size, Image.Resampling.BICUBIC)))
    # What it sees at its own size, or larger, stays as it is.
    small = encode_image(NOISE)
    assert np.array_equal(np.asarray(decode_image(small, media_limits(), None, SIZES)), np.asarray(NOISE))


def test_what_the_model_sees_is_the_same_but_for_rounding(loaded: Any) -> None:
    processor = loaded.processor.image_processor
    sizes = VisionSizes.of(loaded.processor)
    assert sizes is not None
    whole = NOISE.resize((1000, 700), Image.Resampling.BICUBIC)
    reduced = decode_image(encode_image(whole), media_limits(), None, sizes)
    before, after = (processor(images=[image], return_tensors="pt") for image in (whole, reduced))
    assert before["image_grid_thw"].tolist() == after["image_grid_thw"].tolist()
    # A level of 255 is a difference of 2/255 there.
    assert (before["pixel_values"] - after["pixel_values"]).abs().max() < 0.02


# --- what comes to too much is refused before it is decoded


def headers_only(size: tuple[int, int]) -> bytes:
    """A PNG of this size without a single pixel: to decode it would be to find that out."""
    data = bytearray(image_bytes((1, 1)))
    data[16:24] = size[0].to_bytes(4) + size[1].to_bytes(4)
    return bytes(data[:33])


def test_media_that_do_not_fit_the_context_are_refused_by_their_headers_with_the_number() -> None:
    model = ModelVision(SIZES, context_tokens=200)
    data = headers_only((2000, 2000))
    tokens = SIZES.image_tokens(2000, 2000)
    with pytest.raises(InvalidRequest) as caught:
        asyncio.run(load_all([source("image", data, n) for n in range(4)], model=model))
    assert caught.value.code == "context_length_exceeded"
    assert f"take {4 * tokens} tokens; the context holds 200" in caught.value.message
    assert f"at least {4 * tokens - 199} too many" in caught.value.message


def test_a_video_that_does_not_fit_the_context_is_refused_before_it_is_decoded() -> None:
    data = bytearray(video_bytes(frames=40, size=(640, 480), container="mov", codec="mjpeg", pixel_format="yuvj420p"))
    first = data.index(b"mdat") + 8
    data[first : first + 400] = bytes(400)
    with pytest.raises(InvalidRequest, match="tokens; the context holds 50"):
        asyncio.run(load_all([source("video", bytes(data))], model=ModelVision(SIZES, 50)))
    with pytest.raises(InvalidMedia, match="damaged"):
        asyncio.run(load_all([source("video", bytes(data))], model=ModelVision(SIZES, 100_000)))


@override_settings(MAX_PIXELS_PER_REQUEST=10_000_000)
def test_all_pixels_of_a_request_together_have_a_limit() -> None:
    with pytest.raises(InvalidMedia, match="12000000 pixels together; at most 10000000"):
        asyncio.run(load_all([source("image", headers_only((2000, 2000)), n) for n in range(3)]))
    loaded = asyncio.run(load_all([source("image", image_bytes((2000, 2000)), n) for n in range(2)]))
    assert [media.width for media in loaded] == [2000, 2000]


def test_a_jpeg_of_too_many_scans_is_refused_before_it_is_decoded() -> None:
    for data, words in (
        (progressive_bomb(1000), "more than 100 scans"),
        (progressive_bomb(90, (5000, 4000)), "too many for its size"),
    ):
        with pytest.raises(InvalidMedia, match=words):
            asyncio.run(load_all([source("image", data)]))
    with pytest.raises(InvalidMedia, match="more than 100 scans"):
        asyncio.run(load_all([source("video", in_a_movie(progressive_bomb(1000), (400, 400)))]))
    # An ordinary one, alone and as a film.
    assert asyncio.run(load_all([source("image", progressive_bomb(1))]))
    assert asyncio.run(load_all([source("video", in_a_movie(progressive_bomb(1), (400, 400)))]))


@pytest.mark.parametrize(
    ("data", "size"),
    [
        pytest.param(image_bytes((16320, 12240), mode="L", color=99, format="JPEG"), (16320, 12240), id="jpeg"),
        pytest.param(image_bytes((6200, 5000), color="red", compress_level=1), (6200, 5000), id="png"),
        pytest.param(image_bytes((8165, 6124), color="red", format="WEBP", quality=5), (8165, 6124), id="webp"),
        pytest.param(
            image_bytes((6000, 5000), mode="F", color=0.5, format="TIFF", compression="tiff_adobe_deflate"),
            (6000, 5000),
            id="tiff of fractions",
        ),
    ],
)
def test_a_large_picture_is_read_within_the_memory_of_one_process(data: bytes, size: tuple[int, int]) -> None:
    with override_settings(MAX_IMAGE_BYTES=100_000_000):
        [media] = asyncio.run(load_all([source("image", data)], model=ModelVision(SIZES, 4096)))
    assert (media.width, media.height) == size
    seen = decode.decode_image(media.data, SIZES)
    assert seen.size == SIZES.image_size(*size)


def test_what_takes_more_memory_than_a_process_has_is_refused() -> None:
    limits = dataclasses.replace(media_limits(), memory_bytes=100 * 2**20)
    progressive = image_bytes((6000, 6000), color="red", format="JPEG", progressive=True)
    tiff = image_bytes((6000, 6000), color="red", format="TIFF", compression="tiff_lzw")
    pool = DecodingPool(processes=1, pixels=1, memory_mb=100)
    pool.start()
    try:
        for data, words in ((progressive, "too large for a progressive JPEG"), (tiff, "more memory than is allowed")):
            job = pool.submit(
                images.check_image, (data, limits, "image"), kind="image", param="image", pixels=1, cpu_seconds=20
            )
            with pytest.raises(InvalidMedia, match=words):
                job.result(60)
    finally:
        pool.stop()
