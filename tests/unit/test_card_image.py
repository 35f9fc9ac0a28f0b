"""Whatever a clerk has the card on becomes the same kind of picture: photographs, scans, and their pages."""

from __future__ import annotations

import asyncio
import io

import numpy as np
import pypdfium2
import pytest
from django.test import override_settings
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from inference.errors import InvalidMedia, TooLarge
from ocr.card_image import CardImage, make_ready
from tests.db.ktp_cards import specimen
from tests.media_samples import encode_image, heic_bytes, image_bytes, pdf_bytes

CARD = Image.open(io.BytesIO(specimen("PNG")))


def ready(data: bytes, *, page: int = 1, turn: int = 0) -> CardImage:
    return asyncio.run(make_ready(data, page=page, turn=turn))


def pixels(image: CardImage) -> Image.Image:
    return Image.open(io.BytesIO(image.data)).convert("RGB")


def sheet(card: Image.Image = CARD) -> Image.Image:
    """A sheet of A4 at 150 dots an inch with the card in a corner, in its own size."""
    page = Image.new("RGB", (1240, 1754), "white")
    page.paste(card.resize((506, 319)), (90, 120))
    return page


def locked_pdf() -> bytes:
    """With a password that nobody is told; made by hand, for nothing here writes such files."""
    key = "/Filter /Standard /V 1 /R 2 /P -4 /O <" + "41" * 32 + "> /U <" + "42" * 32 + ">"
    body = "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\n"
    trailer = f"trailer<</Root 1 0 R/Size 3/ID[<00><00>]/Encrypt<<{key}>>>>\n%%EOF"
    return (body + trailer).encode()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encode_image(CARD, format="JPEG"), id="jpeg"),
        pytest.param(encode_image(CARD, format="PNG"), id="png"),
        pytest.param(encode_image(CARD, format="WEBP"), id="webp"),
        pytest.param(encode_image(CARD, format="AVIF"), id="avif"),
        pytest.param(encode_image(CARD, format="TIFF", compression="tiff_lzw"), id="tiff"),
        pytest.param(encode_image(CARD, format="BMP"), id="bmp"),
        pytest.param(encode_image(CARD.convert("P", palette=Image.Palette.ADAPTIVE), format="GIF"), id="gif"),
        pytest.param(heic_bytes(CARD), id="heic"),
        pytest.param(heic_bytes(CARD, tile=256), id="heic in tiles"),
    ],
)
def test_a_card_is_taken_as_people_have_it(data: bytes) -> None:
    image = ready(data)
    assert (image.width, image.height) == CARD.size
    assert np.abs(np.asarray(pixels(image)).astype(int) - np.asarray(CARD).astype(int)).mean() < 8


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(image_bytes((8165, 6124), color="tan", format="JPEG"), id="50 megapixels"),
        pytest.param(image_bytes((12000, 9000), color="tan", format="JPEG"), id="108 megapixels"),
        pytest.param(image_bytes((16320, 12240), color="tan", format="JPEG"), id="200 megapixels"),
        pytest.param(image_bytes((8165, 6124), color="tan", format="WEBP", quality=5), id="50 megapixels of WebP"),
    ],
)
def test_a_phones_largest_picture_is_taken(data: bytes) -> None:
    image = ready(data)
    assert max(image.width, image.height) == 2048
    assert abs(image.width / image.height - 4 / 3) < 0.01


def test_a_turn_is_to_the_right_in_quarters() -> None:
    upright = np.asarray(pixels(ready(specimen("PNG"))))
    for turn in range(5):
        turned = np.asarray(pixels(ready(specimen("PNG"), turn=turn)))
        assert np.array_equal(turned, np.rot90(upright, -turn))


def test_a_scan_is_its_first_page_without_the_paper_around_it() -> None:
    image = ready(pdf_bytes(sheet()))
    assert image.pages == 1
    # 506 x 319 at 150 dots an inch are twice that at 300, and a little of the paper is left.
    assert abs(image.width - 1012) < 50 and abs(image.height - 638) < 50


def test_another_page_is_read_where_it_is_asked_for() -> None:
    data = pdf_bytes(Image.new("RGB", (400, 400), "red"), sheet(), Image.new("RGB", (400, 200), "blue"))
    assert ready(data).pages == 3
    red, _, other = np.asarray(pixels(ready(data))).mean((0, 1))
    assert red > 200 > 60 > other
    other, _, blue = np.asarray(pixels(ready(data, page=3))).mean((0, 1))
    assert blue > 200 > 60 > other


@pytest.mark.parametrize("page", [0, -1, 2, 10**9])
def test_a_page_that_is_not_there_is_refused_with_the_number_of_pages(page: int) -> None:
    with pytest.raises(InvalidMedia, match=r"It has 1 page\.") as caught:
        ready(pdf_bytes(sheet()), page=page)
    assert caught.value.code == "pdf_no_such_page"


def test_an_empty_page_is_a_picture_of_paper() -> None:
    assert ready(pdf_bytes(Image.new("RGB", (300, 300), "white"))).width > 100


def test_a_locked_scan_says_what_to_do() -> None:
    with pytest.raises(InvalidMedia, match="Save it without one") as caught:
        ready(locked_pdf())
    assert caught.value.code == "pdf_locked"


@pytest.mark.parametrize("data", [b"%PDF-1.7", b"%PDF-1.4\n%%EOF", b"\xef\xbb\xbf%PDF-", pdf_bytes(sheet())[:900]])
def test_a_scan_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidMedia, match="Scan the card again"):
        ready(data)


def test_a_page_of_no_size_or_of_kilometres_is_refused_or_bounded() -> None:
    document = pypdfium2.PdfDocument.new()
    document.new_page(14400, 14400)
    document.new_page(14400, 10)
    target = io.BytesIO()
    document.save(target)
    assert ready(target.getvalue()).width == 2048
    with pytest.raises(InvalidMedia, match="too long and thin"):
        ready(target.getvalue(), page=2)


def test_a_file_over_the_limit_is_refused_unread() -> None:
    with override_settings(OCR_MAX_UPLOAD_BYTES=2048), pytest.raises(TooLarge, match="lower quality or size"):
        ready(bytes(2049))


SCANS = [pdf_bytes(sheet()), pdf_bytes(Image.new("1", (99, 99)), CARD.resize((60, 40)))]


def test_a_scan_with_a_drawing_on_it_keeps_the_drawing() -> None:
    page = Image.new("RGB", (800, 800), "white")
    ImageDraw.Draw(page).line((100, 100, 700, 700), fill="black", width=9)
    image = ready(pdf_bytes(page))
    assert abs(image.width - image.height) < 20 and image.width > 1100


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_scan_is_read_or_refused(data: st.DataObject) -> None:
    scan = bytearray(data.draw(st.sampled_from(SCANS)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(scan) - 1))
        scan[at : at + 3] = data.draw(st.binary(max_size=6))
    if data.draw(st.booleans()):
        del scan[data.draw(st.integers(8, len(scan))) :]
    try:
        image = ready(bytes(scan))
    except InvalidMedia:
        return
    assert image.width > 0 and image.pages > 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_very_large_picture_of_a_card_is_reduced_as_any_other(kind: str) -> None:
    large = CARD.resize((6000, 3782), Image.Resampling.BICUBIC)
    image = ready(encode_image(large, format=kind))
    assert image.width == 2048
    assert abs(image.height - 1291) <= 1
    as_any = large.resize(pixels(image).size, Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(pixels(image), float) - np.asarray(as_any, float)).mean() < 3
