"""PDF scans: render one page as a picture and crop its white margins.

PDFium parses untrusted files, so like all decoding this runs in a process that may be killed.
"""

from __future__ import annotations

import ctypes
import math

import pypdfium2
from PIL import Image, ImageOps
from pypdfium2 import raw

from inference.errors import InvalidMedia
from inference.media.large import WHOLE_PIXELS
from inference.media.limits import Limits, check_shape

#: PDF readers look for the signature in this many first bytes
HEAD_BYTES = 1024
#: at this resolution a card of 86 mm has 1,000 pixels
DOTS_AN_INCH = 300
POINTS_AN_INCH = 72
#: margins are found in a page reduced by this factor; pixels darker than the limit are not paper
MARGIN_STEP, PAPER = 8, 235


def is_pdf(data: bytes) -> bool:
    """Whether the data begin like a PDF."""
    return b"%PDF-" in data[:HEAD_BYTES]


def page_picture(data: bytes, number: int, limits: Limits, param: str | None) -> tuple[Image.Image, int]:
    """Page ``number``, from 1, and the number of pages.

    Raises InvalidMedia: ``pdf_locked`` for a PDF with a password, ``pdf_no_such_page``, or for a damaged file.
    """
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as exc:
        if exc.err_code == raw.FPDF_ERR_PASSWORD:
            raise InvalidMedia(
                "The PDF is locked with a password. Save it without one, or send a picture of the card.",
                param=param,
                code="pdf_locked",
            ) from None
        raise _damaged(param) from None
    pages = len(document)
    if not pages:
        raise _damaged(param)
    if not 1 <= number <= pages:
        raise InvalidMedia(
            f"The PDF has no page {number}. It has {pages} page{'s' if pages > 1 else ''}.",
            param="page",
            code="pdf_no_such_page",
        )
    try:
        return _without_margins(_render(document[number - 1], limits, param)), pages
    except (pypdfium2.PdfiumError, ValueError, ctypes.ArgumentError):
        raise _damaged(param) from None


def _render(page: pypdfium2.PdfPage, limits: Limits, param: str | None) -> Image.Image:
    width, height = page.get_size()
    if not (0 < width < math.inf and 0 < height < math.inf):
        raise _damaged(param)
    check_shape(max(1, int(width)), max(1, int(height)), limits, kind="page", param=param)
    scale = min(DOTS_AN_INCH / POINTS_AN_INCH, math.sqrt(WHOLE_PIXELS / (width * height)))
    return page.render(scale=scale, rev_byteorder=True).to_pil().convert("RGB")


def _without_margins(page: Image.Image) -> Image.Image:
    """The page without its margins, so that a card on a large sheet gets all the pixels."""
    small = ImageOps.invert(page.convert("L").reduce(MARGIN_STEP)).point(lambda level: 255 * (level > 255 - PAPER))
    box = small.getbbox()
    if box is None:
        return page
    left, top, right, bottom = (MARGIN_STEP * side for side in box)
    return page.crop(
        (
            max(0, left - MARGIN_STEP),
            max(0, top - MARGIN_STEP),
            min(page.width, right + MARGIN_STEP),
            min(page.height, bottom + MARGIN_STEP),
        )
    )


def _damaged(param: str | None) -> InvalidMedia:
    return InvalidMedia("The file is damaged or not a PDF. Scan the card again, or send a picture of it.", param=param)
