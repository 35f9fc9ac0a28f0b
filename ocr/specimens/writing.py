"""Print text, and record the position of every character of a value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from ocr.specimens.fonts import Font

Colour = tuple[int, int, int]


class Character(NamedTuple):
    """One printed character of a value."""

    #: ``Field.path`` of the value
    path: str
    #: its place in the value's string
    place: int
    text: str
    #: left, top, right, bottom in pixels of the image; capitals fill it from the top to the baseline
    box: tuple[float, float, float, float]


class Page:
    """An image that is being printed, with the positions of its characters."""

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self.draw = ImageDraw.Draw(image)
        # Lists of basic types: one object for each of the card's 200 characters would take longer than drawing them.
        self._marks: list[tuple[str, int, str]] = []
        self._boxes: list[tuple[float, float, float, float]] = []

    def write(
        self,
        text: str,
        x: float,
        y: float,
        font: Font,
        ink: Colour,
        *,
        spacing: float = 0.0,
        path: str = "",
        place: int = 0,
        centred: bool = False,
    ) -> float:
        """Write ``text`` with its left (or its middle) at ``x`` and its capitals centred on ``y``. Returns its end.

        All are in pixels. With a ``path`` the text is that field's value, or the part of it that begins at ``place``.
        """
        if centred:
            x -= (font.width(text) + spacing * len(text)) / 2
        baseline = y + font.cap_height / 2
        if not spacing:
            self.draw.text((x, baseline), text, fill=ink, font=font.pillow, anchor="ls")
        top = baseline - font.cap_height
        for i, character in enumerate(text):
            if spacing:
                self.draw.text((x, baseline), character, fill=ink, font=font.pillow, anchor="ls")
            width = font.advance(character)
            if path and character != " ":
                self._marks.append((path, place + i, character))
                self._boxes.append((x, top, x + width, baseline))
            x += width + spacing
        return x

    def boxes(self) -> np.ndarray:
        """[characters, 4] float64, in the order of ``characters``."""
        return np.array(self._boxes, dtype=np.float64).reshape(-1, 4)

    def marks(self) -> list[tuple[str, int, str]]:
        """Field, place and text of every character noted."""
        return self._marks


def characters(marks: list[tuple[str, int, str]], boxes: np.ndarray) -> Iterator[Character]:
    """The marks with where they are now."""
    for (path, place, text), box in zip(marks, boxes.tolist(), strict=True):
        yield Character(path, place, text, (box[0], box[1], box[2], box[3]))
