"""HEIC and AVIF: read upright, without their metadata, and the large ones in little memory."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from inference.errors import InvalidMedia
from inference.media import heic, images
from inference.media.formats import heif
from inference.media.formats.bare import Unreadable
from inference.media.images import check_image, decode_image
from inference.media.limits import media_limits
from tests.media_samples import encode_image, heic_bytes

#: dark above, red on the left, and not square: every turn and flip of it is another picture
PICTURE = Image.merge(
    "RGB",
    (Image.linear_gradient("L").rotate(90), Image.linear_gradient("L"), Image.new("L", (256, 256), 40)),
).resize((192, 128))
TURNED = {n: PICTURE.transpose(turn) for n, turn in images.TURNS.items()} | {1: PICTURE}


def exif(orientation: int) -> bytes:
    written = Image.Exif()
    written[0x0112] = orientation
    written[0x010F] = "CameraMaker"
    return written.tobytes()


def avif_bytes(image: Image.Image, **options: object) -> bytes:
    return encode_image(image, format="AVIF", **options)


def decode(data: bytes) -> Image.Image:
    return decode_image(data, media_limits(), "part")


def difference(one: Image.Image, other: Image.Image) -> float:
    assert one.size == other.size
    return float(np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).mean())


@pytest.mark.parametrize("write", [heic_bytes, avif_bytes])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_upright_whichever_way_the_phone_was_held(write: Callable[..., bytes], orientation: int) -> None:
    assert difference(decode(write(PICTURE, exif=exif(orientation))), TURNED[orientation]) < 6


@pytest.mark.parametrize("orientation", [1, 6, 7])
def test_a_large_picture_is_the_same_in_tiles(orientation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic_bytes(PICTURE, tile=64, exif=exif(orientation))
    assert len(heif.read_file(data).picture.parts) == 6
    whole = decode(data)
    monkeypatch.setattr(images, "WHOLE_PIXELS", 128 * 192 // 4)
    reduced = decode(data)
    assert reduced.size == (whole.width // 2, whole.height // 2)
    assert difference(reduced, whole.reduce(2)) < 4


@pytest.mark.parametrize("write", [heic_bytes, avif_bytes])
def test_a_large_picture_of_one_piece_is_reduced_while_it_is_decoded(
    write: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(PICTURE, exif=exif(8))
    monkeypatch.setattr(images, "WHOLE_PIXELS", 128 * 192 // 4)
    assert difference(decode(data), TURNED[8].reduce(2)) < 6


def test_tiles_have_the_pixels_of_the_whole() -> None:
    data = heic_bytes(PICTURE, tile=64)
    reduced, whole = heic.decode_reduced(data, 2**30), heic.decode_whole(data, PICTURE.size)
    assert difference(reduced, whole) < 1


@pytest.mark.parametrize("write", [heic_bytes, avif_bytes])
def test_what_is_transparent_is_on_white(write: Callable[..., bytes]) -> None:
    assert np.asarray(decode(write(Image.new("RGBA", (64, 64), (0, 0, 0, 0))))).min() > 250


@pytest.mark.parametrize("write", [heic_bytes, avif_bytes])
def test_what_is_stored_tells_nothing_of_the_camera(write: Callable[..., bytes]) -> None:
    data = write(PICTURE, exif=exif(6)) + b"\0\0\0\x14mpvdFILM OF A SECOND"
    checked = check_image(data, media_limits(), None)
    assert (checked.width, checked.height) == (128, 192)
    assert checked.data is not None
    assert b"CameraMaker" in data and b"CameraMaker" not in checked.data and b"FILM" not in checked.data
    assert difference(decode(checked.data), decode(data)) == 0


def test_a_header_that_claims_too_much_is_refused_before_anything_is_decoded() -> None:
    data = heic_bytes(PICTURE).replace((192).to_bytes(4) + (128).to_bytes(4), (40000).to_bytes(4) + (30000).to_bytes(4))
    with pytest.raises(InvalidMedia, match="40000 x 30000"):
        decode(data)


@pytest.mark.parametrize("write", [heic_bytes, avif_bytes])
def test_a_file_that_ends_too_early_is_refused(write: Callable[..., bytes]) -> None:
    data = write(PICTURE.resize((400, 300)))
    for part in (0.1, 0.3, 0.7):
        with pytest.raises(InvalidMedia, match="damaged or cut off"):
            decode(data[: int(len(data) * part)])


def test_a_film_is_no_picture() -> None:
    assert heif.brands(b"\0\0\0\x14ftypisom\0\0\2\0isom") == {b"isom"}
    with pytest.raises(InvalidMedia, match="Accepted formats"):
        decode(b"\0\0\0\x14ftypisom\0\0\2\0isom" + bytes(100))


def test_pillow_reads_what_is_stored() -> None:
    stored = check_image(avif_bytes(PICTURE, exif=exif(6)), media_limits(), None).data
    assert stored is not None
    assert Image.open(io.BytesIO(stored)).size == (192, 128)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L", len(content) + 8) + kind + content


def full_box(kind: bytes, content: bytes) -> bytes:
    return box(kind, bytes(4) + content)


def header(*, items: int = 1, pieces: int = 1, properties: int = 1, parts: int = 1) -> bytes:
    """A HEIC's header that names so many things, and no pixels."""
    entry = box(b"infe", b"\2\0\0\0" + struct.pack(">HH", 1, 0) + b"hvc1\0")
    size = full_box(b"ispe", struct.pack(">LL", 64, 64))
    places = struct.pack(">HHH", 1, 0, pieces) + struct.pack(">LL", 0, 1) * pieces
    said = struct.pack(">LHB", 1, 1, min(properties, 255)) + b"\1" * min(properties, 255)
    refers = box(b"dimg", struct.pack(">HH", 1, parts) + b"\0\1" * parts)
    inside = [
        full_box(b"pitm", struct.pack(">H", 1)),
        full_box(b"iinf", struct.pack(">H", items) + entry * items),
        full_box(b"iloc", struct.pack(">HH", 0x4400, 1) + places),
        box(b"iprp", box(b"ipco", size) + full_box(b"ipma", said) * (1 + properties // 255)),
        full_box(b"iref", refers),
    ]
    return box(b"ftyp", b"heic\0\0\0\0heic") + full_box(b"meta", b"".join(inside))


def test_a_header_that_names_too_much_is_not_read_to_its_end() -> None:
    assert heif.size(header()) == (64, 64)
    assert heif.size(header(items=2000, pieces=2000, properties=200, parts=2000)) == (64, 64)
    for much in ({"items": 10_000}, {"pieces": 60_000}, {"properties": 20_000}, {"parts": 60_000}):
        with pytest.raises(Unreadable):
            heif.size(header(**much))
