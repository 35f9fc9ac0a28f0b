"""The conditions of specimens' pictures, and how each is drawn. Evaluations report by their names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from ocr.specimens import geometry, spoiling
from ocr.specimens.background import clouds
from ocr.specimens.geometry import View

#: condition → its weight if none is given
CONDITIONS: dict[str, float] = {
    "flat": 30,
    "framed": 8,
    "tilted": 8,
    "quarter_turn": 4,
    "perspective": 8,
    "dim": 6,
    "blur": 6,
    "glare": 6,
    "jpeg": 6,
    "small": 5,
    "photocopy": 5,
    "screen": 4,
    "cropped": 4,
    "covered": 5,
    "other": 5,
}

_VIEWS: dict[str, Callable[[Random, tuple[int, int]], View]] = {
    "framed": geometry.framed,
    "tilted": geometry.tilted,
    "perspective": geometry.perspective,
    "cropped": geometry.cropped,
}

#: conditions whose pictures are sometimes also slightly displaced, like real ones
_NUDGED = 0.5


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture of a card."""

    picture: Image.Image
    #: [characters, 4] in pixels of the picture
    boxes: np.ndarray
    #: [characters], whether the character cannot be seen
    hidden: np.ndarray


def show(random: Random, condition: str, card: Image.Image, boxes: np.ndarray, size: tuple[int, int]) -> Shown:
    """The card, with its characters' ``boxes``, as a picture of ``size`` in ``condition``.

    Quarter turns swap the size's two sides, but for a half turn.
    """
    hidden = np.zeros(len(boxes), dtype=bool)
    if condition in _VIEWS:
        view = _VIEWS[condition](random, size)
    else:
        view = geometry.nudged(random, size) if random.random() < _NUDGED else geometry.filling(size)
    boxes = view.place_boxes(boxes, card.size)
    picture = lay(random, view, card)
    if condition == "covered":
        hidden |= _cover(random, picture, boxes)
    hidden |= _outside(boxes, picture.size)
    picture = spoil(random, condition, picture)
    if condition == "quarter_turn":
        picture, boxes = geometry.quarter_turned(picture, boxes, random.randint(1, 3))
    return Shown(picture, boxes, hidden)


def lay(random: Random, view: View, card: Image.Image) -> Image.Image:
    """The card as ``view`` places it, on a soft background."""
    if np.allclose(view.corners, geometry.filling(view.size).corners):
        return card.resize(view.size, Image.Resampling.BICUBIC)
    # Reduced first: the mapping samples single points and would leave jagged letters.
    if card.width > 1.3 * view.size[0]:
        card = card.resize((round(1.1 * view.size[0]), round(1.1 * view.size[1])), Image.Resampling.BICUBIC)
    base = (random.randint(20, 230), random.randint(20, 220), random.randint(20, 210))
    return view.place(card, clouds(random, view.size, base, 25))


def spoil(random: Random, condition: str, picture: Image.Image, *, letters_of: int | None = None) -> Image.Image:
    """The picture after the pixel effects of ``condition``, and small ones that every picture has. No geometry.

    The blur is relative to the card's width in pixels: the picture's own, or ``letters_of`` for a part of a card.
    """
    scale = (letters_of or picture.width) / 512
    if condition == "dim":
        picture = spoiling.dim(random, picture)
    elif condition == "blur":
        picture = spoiling.blur(picture, scale * random.uniform(0.5, 0.8))
    elif condition == "glare":
        picture = spoiling.glare(random, picture)
    elif condition == "small":
        picture = spoiling.small(random, picture)
    elif condition == "photocopy":
        return spoiling.photocopy(random, picture)
    elif condition == "screen":
        picture = spoiling.screen(random, picture)
    picture = spoiling.levels(random, picture)
    if random.random() < 0.6:
        picture = spoiling.grain(random, picture, random.uniform(1, 6))
    if condition == "jpeg":
        picture = spoiling.jpeg(picture, random.randint(30, 75))
    return picture


def _cover(random: Random, picture: Image.Image, boxes: np.ndarray) -> np.ndarray:
    """Draw a finger over one or two rows. Returns which characters it hides."""
    if not len(boxes):
        return np.zeros(0, dtype=bool)
    left, top, right, bottom = boxes[random.randrange(len(boxes))]
    row = bottom - top
    x, y = (left + right) / 2, (top + bottom) / 2
    half_width, half_height = random.uniform(3, 9) * row, random.uniform(0.75, 1.8) * row
    skin = random.choice(((224, 172, 140), (198, 140, 105), (141, 92, 65), (90, 60, 45)))
    box = (x - half_width, y - half_height, x + half_width, y + half_height)
    ImageDraw.Draw(picture).rounded_rectangle(box, radius=half_height, fill=skin)
    middles_x, middles_y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    # The ends are round, so a character there may still be visible.
    straight = half_width - 0.4 * half_height
    return (abs(middles_x - x) < straight) & (abs(middles_y - y) < half_height)


def _outside(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Which characters are cut off by the picture's edge, by a fifth or more."""
    width, height = size
    slack_x, slack_y = 0.2 * (boxes[:, 2] - boxes[:, 0]), 0.2 * (boxes[:, 3] - boxes[:, 1])
    return (
        (boxes[:, 0] < -slack_x)
        | (boxes[:, 2] > width + slack_x)
        | (boxes[:, 1] < -slack_y)
        | (boxes[:, 3] > height + slack_y)
    )
