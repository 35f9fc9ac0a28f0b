"""Decoding pictures: every common kind becomes upright RGB, all else is refused naming the part."""

from __future__ import annotations

import numpy as np
import pytest
from django.test import override_settings
from PIL import Image

from inference.errors import InvalidMedia
from inference.media.images import decode_image, image_content_type
from inference.media.limits import media_limits
from tests.media_samples import encode_image, image_bytes

PART = "messages[0].content[1]"
WHITE = (255, 255, 255)


def decode(data: bytes) -> Image.Image:
    return decode_image(data, media_limits(), PART)


def refusal(data: bytes) -> str:
    with pytest.raises(InvalidMedia) as caught:
        decode(data)
    assert caught.value.param == PART
    return caught.value.message


@pytest.mark.parametrize(
    ("file_format", "content_type"),
    [
        ("PNG", "image/png"),
        ("JPEG", "image/jpeg"),
        ("WEBP", "image/webp"),
        ("GIF", "image/gif"),
        ("BMP", "image/bmp"),
        ("TIFF", "image/tiff"),
        ("MPO", "image/jpeg"),
    ],
)
def test_every_accepted_format_becomes_rgb(file_format: str, content_type: str) -> None:
    data = image_bytes((16, 8), color=(200, 30, 30), format=file_format)
    image = decode(data)
    assert (image.mode, image.size) == ("RGB", (16, 8))
    assert np.abs(np.asarray(image, int)[4, 8] - (200, 30, 30)).max() <= 6
    assert image_content_type(data, param=PART) == content_type


@pytest.mark.parametrize(
    ("data", "pixel"),
    [
        pytest.param(image_bytes(mode="L", color=77), (77, 77, 77), id="greyscale"),
        pytest.param(image_bytes(mode="1", color=1), WHITE, id="black and white"),
        pytest.param(image_bytes(mode="RGBA", color=(255, 0, 0, 0)), WHITE, id="transparent"),
        pytest.param(image_bytes(mode="RGBA", color=(0, 0, 0, 128)), (127, 127, 127), id="half transparent"),
        pytest.param(image_bytes(mode="LA", color=(0, 0)), WHITE, id="transparent grey"),
        pytest.param(image_bytes(color=(1, 2, 3), transparency=(1, 2, 3)), WHITE, id="colour key"),
        pytest.param(image_bytes(mode="CMYK", color=(0, 0, 0, 0), format="TIFF"), WHITE, id="cmyk tiff"),
        pytest.param(image_bytes(mode="CMYK", color=(0, 0, 0, 0), format="JPEG"), WHITE, id="cmyk jpeg"),
        pytest.param(image_bytes(mode="I;16", color=0x8000), (128, 128, 128), id="16 bits"),
        pytest.param(image_bytes(mode="I", color=0x8080, format="TIFF"), (128, 128, 128), id="32 bits"),
        pytest.param(image_bytes(mode="F", color=0.5, format="TIFF"), (128, 128, 128), id="fractions"),
    ],
)
def test_every_kind_of_pixel_becomes_rgb(data: bytes, pixel: tuple[int, int, int]) -> None:
    image = decode(data)
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image, int)[2, 2] - pixel).max() <= 1


def test_a_transparent_palette_is_laid_on_white() -> None:
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert decode(encode_image(palette)).getpixel((0, 0)) == (10, 20, 30)
    assert decode(encode_image(palette, transparency=1)).getpixel((0, 0)) == (255, 255, 255)


def test_a_photograph_taken_sideways_is_turned_upright() -> None:
    picture = Image.new("RGB", (20, 10), "white")
    picture.paste("black", (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    image = decode(encode_image(picture, exif=exif))
    assert image.size == (10, 20)
    assert image.getpixel((5, 2)) == (0, 0, 0)
    assert image.getpixel((5, 17)) == (255, 255, 255)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_exif_block_does_not_spoil_the_picture() -> None:
    data = image_bytes(format="JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\xff\xff")
    assert decode(data).size == (8, 6)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    for file_format in ("GIF", "PNG", "WEBP"):
        options = {"lossless": True} if file_format == "WEBP" else {}
        data = encode_image(frames[0], format=file_format, save_all=True, append_images=frames[1:], **options)
        assert decode(data).getpixel((4, 4)) == (255, 0, 0)


def test_a_single_pixel_is_an_image() -> None:
    assert decode(image_bytes((1, 1))).getpixel((0, 0)) == (255, 0, 0)


def test_a_cut_off_image_is_refused() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    for file_format in ("PNG", "JPEG", "WEBP", "BMP", "TIFF"):
        data = encode_image(noise, format=file_format)
        refusal(data[: len(data) // 2])


@pytest.mark.parametrize("data", [b"", b"\0", b"<html>404</html>", b"%PDF-1.4", b"\x89PNG\r\n\x1a\n", bytes(500)])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    assert "image" in refusal(data)


def test_a_format_outside_the_list_is_refused_though_pillow_could_read_it() -> None:
    for file_format in ("ICO", "PPM", "PCX", "TGA"):
        assert "Accepted formats" in refusal(image_bytes((16, 16), format=file_format))


def test_too_many_pixels_are_refused_from_the_header_alone() -> None:
    data = image_bytes((100, 100))
    with override_settings(MAX_IMAGE_PIXELS=9999):
        assert "at most 9999 pixels" in refusal(data)
        # Cut right behind the header: nothing could have been decoded.
        assert "at most 9999 pixels" in refusal(data[:60])
    with override_settings(MAX_IMAGE_PIXELS=10_000):
        decode(data)


def test_a_header_that_claims_a_billion_pixels_is_refused() -> None:
    data = bytearray(image_bytes(format="BMP"))
    data[18:26] = (40_000).to_bytes(4, "little") * 2
    assert "pixels" in refusal(bytes(data))


def test_an_image_too_long_for_the_model_is_refused() -> None:
    decode(image_bytes((200, 1)))
    assert "201 x 1" in refusal(image_bytes((201, 1)))
    assert "1 x 201" in refusal(image_bytes((1, 201)))
