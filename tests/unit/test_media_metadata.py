"""Metadata never decides whether a picture can be read, and none of it is kept but which way is up."""

from __future__ import annotations

import io
import os
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin

from inference.errors import InvalidMedia
from inference.media.images import decode_image, take_apart
from inference.media.limits import media_limits
from tests.media_samples import encode_image

PART = "messages[0].content[0]"
#: stands in every kind of metadata of these pictures
SECRET = b"-6.1754,106.8272"
NOISE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8))
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" exif:GPS="'
    + SECRET
    + b'"/></x:xmpmeta>'
)


def decode(data: bytes) -> Image.Image:
    return decode_image(data, media_limits(), PART)


def bare(data: bytes) -> bytes:
    return take_apart(data, media_limits(), param=PART).data


def same(image: Image.Image, expected: Image.Image) -> bool:
    return image.size == expected.size and np.array_equal(np.asarray(image), np.asarray(expected.convert("RGB")))


def by_pillow(data: bytes) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")


def exif(orientation: int = 1) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    block[0x010F] = SECRET.decode()
    block.get_ifd(0x8825)[1] = "S"
    block.get_ifd(0x8825)[29] = SECRET.decode()
    block.get_ifd(0x8769)[0x927C] = SECRET
    return block


def png_with(kind: bytes, content: bytes, *, checksum: int | None = None, image: Image.Image = NOISE) -> bytes:
    """A PNG with one more chunk in front of its pixels."""
    data = encode_image(image)
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    chunk = struct.pack(">L", len(content)) + kind + content + struct.pack(">L", checksum)
    at = data.index(b"IDAT") - 4
    return data[:at] + chunk + data[at:]


def jpeg_with(*segments: bytes, image: Image.Image = NOISE, **options: object) -> bytes:
    """A JPEG with more segments behind its start."""
    data = encode_image(image, format="JPEG", **options)
    return data[:2] + b"".join(s[:2] + struct.pack(">H", len(s)) + s[2:] for s in segments) + data[2:]


def webp_with(kind: bytes, content: bytes) -> bytes:
    data = encode_image(NOISE, format="WEBP", lossless=True, exif=exif())
    chunk = kind + struct.pack("<L", len(content)) + content + bytes(len(content) % 2)
    return data[:4] + struct.pack("<L", len(data) - 8 + len(chunk)) + data[8:] + chunk


def gif_with(*blocks: bytes) -> bytes:
    data = encode_image(NOISE, format="GIF")
    at = 13 + (3 << (data[10] & 7) + 1)
    return data[:at] + b"".join(blocks) + data[at:]


def tiff_with(tags: dict[int, tuple[int, object]], **options: object) -> bytes:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, (kind, value) in tags.items():
        info.tagtype[tag] = kind
        info[tag] = value
    return encode_image(NOISE, format="TIFF", tiffinfo=info, **options)


BLOCKS = b"\xfe" + b"\xfe".join([b"x" * 254] * 100) + b"\0"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(png_with(b"zTXt", b"k\0\0" + zlib.compress(bytes(3_000_000))), id="png, 3 MB of packed text"),
        pytest.param(png_with(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(bytes(80_000_000))), id="png, a bomb of text"),
        pytest.param(png_with(b"tEXt", b"k\0" + bytes(3_000_000)), id="png, 3 MB of plain text"),
        pytest.param(png_with(b"zTXt", b"k\0\0not packed at all"), id="png, text that cannot be unpacked"),
        pytest.param(png_with(b"zTXt", b"k\0\7abc"), id="png, text packed in an unknown way"),
        pytest.param(png_with(b"tEXt", b"k\0v", checksum=1), id="png, a wrong checksum in a text"),
        pytest.param(png_with(b"eXIf", b"MM\0*\xff\xff\xff\xff", checksum=1), id="png, a wrong checksum in EXIF"),
        pytest.param(png_with(b"iCCP", b"p\0\0" + zlib.compress(os.urandom(1_300_000))), id="png, a large profile"),
        pytest.param(png_with(b"iCCP", b"p\0\0" + zlib.compress(bytes(9_000_000))), id="png, a bomb of a profile"),
        pytest.param(png_with(b"iCCP", b""), id="png, an empty profile"),
        pytest.param(png_with(b"tRNS", b"\0", checksum=1), id="png, a wrong checksum in transparency"),
        pytest.param(png_with(b"pHYs", b"\0"), id="png, a short density"),
        pytest.param(png_with(b"gAMA", b""), id="png, an empty gamma"),
        pytest.param(png_with(b"cHRM", b"\0"), id="png, short chromaticities"),
        pytest.param(png_with(b"acTL", b""), id="png, an empty animation"),
        pytest.param(png_with(b"\xff\xfe\x80a", b"?"), id="png, a chunk without a name"),
        pytest.param(
            jpeg_with(b"\xff\xe2ICC_PROFILE\0\5\7" + bytes(60_000)), id="jpeg, one of seven pieces of a profile"
        ),
        pytest.param(jpeg_with(b"\xff\xe2ICC_PROFILE\0"), id="jpeg, a profile that ends in its name"),
        pytest.param(jpeg_with(b"\xff\xedPhotoshop 3.0\0" + b"8BIM\4\4\xff" * 9), id="jpeg, damaged IPTC"),
        pytest.param(jpeg_with(b"\xff\xe1Exif\0\0MM\0*\0\0"), id="jpeg, EXIF cut short"),
        pytest.param(jpeg_with(b"\xff\xe1Exif\0\0MM\0*\xff\xff\xff\xff\xff\xff"), id="jpeg, EXIF that points nowhere"),
        pytest.param(jpeg_with(b"\xff\xe2MPF\0" + b"\xff" * 50), id="jpeg, a damaged list of pictures"),
        pytest.param(jpeg_with(*[b"\xff\xfe" + bytes(65_000)] * 60), id="jpeg, 4 MB of comments"),
        pytest.param(jpeg_with(*[b"\xff\xeaanything" + bytes(65_000)] * 60), id="jpeg, 4 MB of somebody's own"),
        pytest.param(webp_with(b"EXIF", b"MM\0*\xff\xff\xff\xff"), id="webp, damaged EXIF"),
        pytest.param(webp_with(b"ICCP", bytes(2_000_000)), id="webp, a large profile"),
        pytest.param(webp_with(b"what", b"?" * 99), id="webp, an unknown chunk"),
        pytest.param(webp_with(b"XMP ", b"<" * 999)[:-500], id="webp, XMP cut off"),
        pytest.param(gif_with(*[b"!\xfe" + BLOCKS] * 100), id="gif, long comments"),
        pytest.param(gif_with(b"!\xff\x0bXMP DataXMP" + BLOCKS), id="gif, XMP"),
        pytest.param(gif_with(b"!\x01\x0c" + bytes(12) + b"\0"), id="gif, plain text"),
        pytest.param(tiff_with({34675: (7, os.urandom(1_300_000))}), id="tiff, a large profile"),
        pytest.param(tiff_with({33723: (7, b"?" * 99), 700: (7, b"<" * 99)}), id="tiff, damaged IPTC and XMP"),
        pytest.param(tiff_with({37724: (7, b"?" * 99)}, compression="tiff_lzw"), id="tiff, layers, packed"),
    ],
)
def test_metadata_do_not_decide_whether_a_picture_is_read(data: bytes) -> None:
    image = decode(data)
    assert image.size == NOISE.size
    file_format = Image.open(io.BytesIO(bare(data))).format or ""
    assert same(image, decode(encode_image(NOISE, format=file_format, lossless=True)))


def test_a_tag_that_points_out_of_the_file_does_not_spoil_a_tiff() -> None:
    for options in ({}, {"compression": "tiff_adobe_deflate"}, {"big_tiff": True}):
        data = bytearray(tiff_with({33723: (7, b"?" * 99)}, **options))
        entry = data.index(struct.pack("<HH", 33723, 7))
        data[entry + 4 : entry + 8] = struct.pack("<L", 2**31)
        assert same(decode(bytes(data)), NOISE)


PROGRESSIVE = {"progressive": True}


@pytest.mark.parametrize("options", [{}, PROGRESSIVE, {"restart_marker_rows": 1}, {"subsampling": 0, "quality": 98}])
def test_a_jpeg_that_lacks_only_its_end_marker_is_read(options: dict[str, object]) -> None:
    data = encode_image(NOISE, format="JPEG", **options)
    for cut in (data[:-2], data[:-1], data[:-2] + b"\xff\xff"):
        assert same(decode(cut), decode(data))
        # What is stored is whole, so the next decoder need not be forgiving.
        assert bare(cut).endswith(b"\xff\xd9")


@pytest.mark.parametrize("options", [{}, PROGRESSIVE, {"restart_marker_rows": 1}, {"subsampling": 0, "quality": 98}])
def test_a_jpeg_that_ends_inside_its_pixels_is_refused(options: dict[str, object]) -> None:
    data = encode_image(NOISE, format="JPEG", **options)
    scan = data.rindex(b"\xff\xda") if options is PROGRESSIVE else data.index(b"\xff\xda")
    for end in np.linspace(scan, len(data) - 10, 25).astype(int):
        with pytest.raises(InvalidMedia, match="damaged or cut off"):
            decode(data[:end])


def test_a_progressive_jpeg_that_ends_between_two_scans_is_refused() -> None:
    data = encode_image(NOISE, format="JPEG", **PROGRESSIVE)
    scans = [n for n in range(len(data)) if data.startswith(b"\xff\xda", n)]
    assert len(scans) > 5
    for scan in scans[1:]:
        with pytest.raises(InvalidMedia, match="damaged or cut off"):
            decode(data[:scan])


@pytest.mark.parametrize("cut", [12, 8, 4, 1])
def test_a_png_without_its_end_is_read(cut: int) -> None:
    data = encode_image(NOISE)
    assert same(decode(data[:-cut]), NOISE)


def test_a_png_that_ends_inside_its_pixels_is_refused() -> None:
    data = encode_image(NOISE)
    end = data.index(b"IEND") - 4
    # Behind the last pixel stand four bytes of zlib's checksum and four of the chunk's.
    for cut in np.linspace(data.index(b"IDAT") + 4, end - 40, 25).astype(int):
        with pytest.raises(InvalidMedia, match="damaged or cut off"):
            decode(data[:cut])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pictures_are_turned_as_their_exif_says(file_format: str, orientation: int) -> None:
    data = encode_image(NOISE, format=file_format, exif=exif(orientation))
    assert same(decode(data), by_pillow(data))
    # What is stored is turned in the same way, and taking it apart again changes nothing.
    assert same(decode(bare(data)), by_pillow(data))
    assert bare(bare(data)) == bare(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(png_with(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP), id="png"),
        pytest.param(png_with(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)), id="png, packed"),
        pytest.param(jpeg_with(b"\xff\xe1http://ns.adobe.com/xap/1.0/\0" + XMP), id="jpeg"),
        pytest.param(tiff_with({700: (1, XMP)}), id="tiff"),
        pytest.param(tiff_with({700: (1, XMP)}, big_tiff=True), id="tiff of 64 bits"),
    ],
)
def test_pictures_are_turned_as_their_xmp_says_where_there_is_no_exif(data: bytes) -> None:
    assert same(decode(data), by_pillow(data))
    assert decode(data).size == (40, 60)
    assert same(decode(bare(data)), by_pillow(data))


def test_a_picture_of_imagemagick_is_turned_as_its_raw_profile_says() -> None:
    block = b"Exif\0\0" + exif(8).tobytes()
    text = b"\nexif\n" + b"%8d\n" % len(block) + block.hex().encode() + b"\n"
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", text.decode(), zip=True)
    data = encode_image(NOISE, pnginfo=info)
    assert same(decode(data), by_pillow(data))
    assert decode(data).size == (40, 60)


def with_secrets() -> list[bytes]:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", SECRET.decode())
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    everywhere: dict[str, Any] = {"exif": exif(), "icc_profile": SECRET, "xmp": XMP}
    tags: dict[int, tuple[int, object]] = {270: (2, SECRET.decode()), 33723: (7, SECRET * 3), 700: (1, XMP)}
    return [
        encode_image(NOISE, pnginfo=info, **everywhere),
        encode_image(NOISE, format="JPEG", comment=SECRET, **everywhere) + SECRET,
        encode_image(NOISE, format="MPO", exif=exif(), save_all=True, append_images=[NOISE]) + SECRET,
        encode_image(NOISE, format="WEBP", lossless=True, **everywhere),
        encode_image(NOISE, format="GIF", comment=SECRET),
        tiff_with(tags, exif=exif()),
        tiff_with(tags, exif=exif(), compression="tiff_lzw"),
        tiff_with(tags, big_tiff=True),
        encode_image(NOISE, format="TIFF", exif=exif(), save_all=True, append_images=[NOISE]),
    ]


@pytest.mark.parametrize("data", with_secrets())
def test_the_place_and_the_device_are_not_kept_and_the_pixels_are(data: bytes) -> None:
    assert SECRET in data
    assert SECRET not in bare(data)
    assert same(decode(bare(data)), by_pillow(data))


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_a_picture_without_metadata_stays_byte_for_byte_as_it_is(file_format: str) -> None:
    data = encode_image(NOISE, format=file_format)
    if file_format == "TIFF":
        # Its tags say nothing, but there are some.
        data = bare(data)
    assert bare(data) == data


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "YCbCr", "PA", "I", "F"])
def test_pixels_of_every_kind_stay_as_they_were(mode: str) -> None:
    picture = (NOISE.convert("L").convert("I") if mode == "I;16" else NOISE).convert(mode)
    for file_format in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        try:
            data = encode_image(picture, format=file_format)
        except (OSError, ValueError):  # not every format has every kind
            continue
        with_exif = decode(data)
        plain, stripped = (Image.open(io.BytesIO(d)) for d in (data, bare(data)))
        assert (plain.mode, plain.tobytes()) == (stripped.mode, stripped.tobytes())
        assert same(with_exif, decode(bare(data)))


def test_a_frame_of_a_gif_that_is_larger_than_its_screen_counts_as_it_is() -> None:
    data = bytearray(encode_image(NOISE, format="GIF"))
    data[6:10] = struct.pack("<HH", 4, 4)
    assert decode(bytes(data)).size == NOISE.size
    assert take_apart(bytes(data), media_limits(), param=PART).width == 60
