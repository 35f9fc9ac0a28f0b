"""The pictures of the sandbox: a drawn specimen with its outcome's name printed across. Their bytes identify them."""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Mapping

from PIL import Image, ImageDraw

from ocr.sandbox.outcomes import OUTCOMES, Outcome
from ocr.specimens import make_specimen
from ocr.specimens.fonts import font, packaged_faces

WIDTH = 640
#: seed of the specimen, which never changes
SEED = 37


def draw(code: str) -> bytes:
    """The picture as PNG. The same on every server of this version with the same packages."""
    image = _card().copy()
    letters = font(packaged_faces().bold[0], image.height * 0.07)
    strip = (0, image.height * 0.42, image.width, image.height * 0.58)
    drawing = ImageDraw.Draw(image)
    drawing.rectangle(strip, fill=(255, 255, 255))
    middle = (image.width / 2, image.height / 2)
    drawing.text(middle, f"SPECIMEN: {code}", fill=(200, 0, 0), font=letters.pillow, anchor="mm")
    encoded = io.BytesIO()
    # Few colours make a small file. No model reads it, so its quality does not matter.
    image.quantize(32).save(encoded, "PNG")
    return encoded.getvalue()


def outcome_of(data: bytes) -> Outcome | None:
    """The outcome of this upload, if it is a picture of the sandbox. It blocks: the first call draws all of them."""
    code = _codes().get(hashlib.sha256(data).hexdigest())
    return OUTCOMES[code] if code is not None else None


@functools.cache
def _codes() -> Mapping[str, str]:
    return {hashlib.sha256(draw(code)).hexdigest(): code for code in OUTCOMES}


@functools.cache
def _card() -> Image.Image:
    return make_specimen(SEED, 0, "flat", width=WIDTH).image
