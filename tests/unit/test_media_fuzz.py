"""Whatever becomes of a file on its way, it is read or refused: nothing crashes, and nothing else comes out."""

from __future__ import annotations

import asyncio
import base64
import functools
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inference.errors import InvalidMedia
from inference.media import decode
from inference.media.load import load_all
from inference.media.parts import MediaKind, MediaSource
from tests.media_samples import encode_image, heic_bytes, image_bytes, video_bytes

GRADIENT = Image.linear_gradient("L").resize((40, 30))


@functools.cache
def pictures() -> Sequence[bytes]:
    colour = Image.merge("RGB", (GRADIENT, GRADIENT.rotate(90).resize((40, 30)), GRADIENT))
    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        encode_image(colour, format="PNG", exif=exif),
        encode_image(colour.convert("P"), format="PNG"),
        encode_image(colour, format="JPEG", exif=exif),
        encode_image(colour, format="JPEG", progressive=True),
        encode_image(colour, format="WEBP", exif=exif),
        encode_image(colour.convert("P"), format="GIF", save_all=True, append_images=[colour], comment=b"comment"),
        encode_image(colour, format="BMP"),
        encode_image(colour, format="TIFF", exif=exif),
        encode_image(colour, format="TIFF", compression="tiff_lzw"),
        encode_image(GRADIENT.convert("F"), format="TIFF", compression="tiff_adobe_deflate"),
        encode_image(GRADIENT, format="TIFF", big_tiff=True),
        encode_image(colour, format="AVIF", exif=exif),
        heic_bytes(colour, exif=exif.tobytes()),
        heic_bytes(colour.resize((96, 80)), tile=64),
    ]


@functools.cache
def videos() -> Sequence[bytes]:
    return [
        video_bytes(frames=4, size=(32, 32)),
        video_bytes(frames=4, size=(32, 32), container="webm", codec="libvpx-vp9"),
        video_bytes(frames=4, size=(32, 32), container="avi", codec="mjpeg", pixel_format="yuvj420p"),
        video_bytes(frames=4, size=(32, 32), container="gif", codec="gif", pixel_format="rgb8"),
        video_bytes(frames=4, size=(32, 32), container_options={"movflags": "frag_keyframe+empty_moov"}),
    ]


@st.composite
def damaged(draw: st.DrawFn, originals: Sequence[bytes]) -> bytes:
    """A file with some bytes changed, most of them at its head, a piece taken out or put in, or its end cut off."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(0, 6))):
        reach = draw(st.sampled_from([60, 300, len(data)]))
        at = draw(st.integers(0, min(reach, len(data)) - 1))
        change = draw(st.sampled_from([b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\1"]))
        data[at : at + len(change)] = change
    if draw(st.booleans()):
        start, length = draw(st.integers(0, len(data) - 1)), draw(st.integers(0, 40))
        data[start : start + length] = draw(st.binary(max_size=40))
    if draw(st.booleans()):
        del data[draw(st.integers(1, max(1, len(data)))) :]
    return bytes(data)


def is_read(kind: MediaKind, reference: str, origin: str) -> bool:
    source = MediaSource(kind, "part", reference, origin)  # type: ignore[arg-type]
    try:
        [media] = asyncio.run(load_all([source]))
    except InvalidMedia as refusal:
        assert refusal.param == "part"
        # That would be said of a crash, or of a mistake of ours.
        assert "cannot be decoded" not in refusal.message
        return False
    # What was accepted, and would be stored, can be shown to the model.
    if kind == "image":
        image = decode.decode_image(media.data, None)
        assert (image.mode, image.size) == ("RGB", (media.width, media.height))
    else:
        frames = decode.sample_video(media.data).frames
        assert frames.shape == (media.frames, media.height, media.width, 3)
    return True


@settings(max_examples=150, deadline=None)
@given(data=st.deferred(lambda: damaged(pictures())))
def test_a_damaged_picture_is_read_or_refused(data: bytes) -> None:
    is_read("image", base64.b64encode(data).decode(), "base64")


@settings(max_examples=60, deadline=None)
@given(data=st.deferred(lambda: damaged(videos())))
def test_a_damaged_video_is_read_or_refused(data: bytes) -> None:
    is_read("video", base64.b64encode(data).decode(), "base64")


@settings(max_examples=100, deadline=None)
@given(
    head=st.text(max_size=30) | st.sampled_from(["image/png;base64", "image/png", ";base64", "a;BASE64 "]),
    body=st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: base64.b64encode(raw).decode()),
)
def test_no_data_url_is_anything_but_a_picture_or_a_refusal(head: str, body: str) -> None:
    assert not is_read("image", f"data:{head},{body}", "data")
    assert is_read("image", "data:;base64," + base64.b64encode(image_bytes()).decode(), "data")
