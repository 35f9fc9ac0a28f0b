"""The card's position in the picture: a plane mapping of the pixels and of the characters' boxes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageDraw

#: (x, y) of the card's corners in the picture, clockwise from the top left
Corners = np.ndarray


@dataclass(frozen=True, slots=True)
class View:
    """The picture's size, and where the card's corners are in it; both in pixels."""

    size: tuple[int, int]
    corners: Corners

    def place(self, card: Image.Image, ground: Image.Image) -> Image.Image:
        """``card`` laid upon ``ground``, which has the picture's size."""
        back = _mapping(self.corners, _rectangle(0, 0, *card.size))
        coefficients = (back / back[2, 2]).ravel()[:8].tolist()
        # Pixels beside the card mix into its edge, so they get its colour.
        laid = card.transform(
            self.size,
            Image.Transform.PERSPECTIVE,
            coefficients,
            Image.Resampling.BILINEAR,
            fillcolor=card.getpixel((2, 2)),
        )
        shape = Image.new("L", self.size, 0)
        ImageDraw.Draw(shape).polygon([tuple(corner) for corner in self.corners.tolist()], fill=255)
        return Image.composite(laid, ground, shape)

    def place_boxes(self, boxes: np.ndarray, card_size: tuple[int, int]) -> np.ndarray:
        """Upright boxes around where ``boxes`` ([n, 4], pixels of the card) are in the picture."""
        there = _mapping(_rectangle(0, 0, *card_size), self.corners)
        left, top, right, bottom = boxes.T
        points = np.stack([[left, right, right, left], [top, top, bottom, bottom], np.ones((4, len(boxes)))])
        x, y, w = np.einsum("ij,jkn->ikn", there, points)
        x, y = x / w, y / w
        return np.stack([x.min(0), y.min(0), x.max(0), y.max(0)], axis=1)


def _rectangle(left: float, top: float, right: float, bottom: float) -> Corners:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=np.float64)


def _mapping(source: Corners, target: Corners) -> np.ndarray:
    """The 3×3 matrix that takes the four ``source`` points to the ``target`` points."""
    rows, wanted = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        wanted += [u, v]
    return np.append(np.linalg.solve(np.array(rows), np.array(wanted)), 1.0).reshape(3, 3)


def filling(size: tuple[int, int]) -> View:
    """The card fills the picture, as from a scanner."""
    return View(size, _rectangle(0, 0, *size))


def nudged(random: Random, size: tuple[int, int]) -> View:
    """Nearly filling: a little turned, moved and scaled, as cards cut out by hand are."""
    return _turned(random, size, degrees=random.uniform(-1.2, 1.2), scale=random.uniform(0.95, 1.01), drift=0.01)


def framed(random: Random, size: tuple[int, int]) -> View:
    return _turned(random, size, degrees=random.uniform(-1.5, 1.5), scale=random.uniform(0.82, 0.94), drift=0.02)


def tilted(random: Random, size: tuple[int, int]) -> View:
    degrees = random.choice((-1, 1)) * random.uniform(3, 7)
    return _turned(random, size, degrees=degrees, scale=random.uniform(0.86, 0.93), drift=0.01)


def perspective(random: Random, size: tuple[int, int]) -> View:
    """One side is 6 to 10 % shorter than the other."""
    view = _turned(random, size, degrees=random.uniform(-1.5, 1.5), scale=random.uniform(0.9, 0.97), drift=0.01)
    corners = view.corners.copy()
    near = random.randrange(4)
    far = (near + 1) % 4
    shrink = random.uniform(0.06, 0.10) / 2
    along = corners[far] - corners[near]
    corners[near] += along * shrink
    corners[far] -= along * shrink
    return View(size, corners)


def cropped(random: Random, size: tuple[int, int]) -> View:
    """An edge or two lie outside the picture."""
    width, height = size
    corners = _rectangle(0, 0, width, height)
    side = random.choice(("left", "right", "top", "bottom"))
    part = random.uniform(0.06, 0.3)
    moves = {"left": (-part, 0), "right": (part, 0), "top": (0, -part), "bottom": (0, part)}
    return View(size, corners + np.array(moves[side]) * (width, height))


def _turned(random: Random, size: tuple[int, int], *, degrees: float, scale: float, drift: float) -> View:
    width, height = size
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    middle = np.array([width, height]) * (
        0.5 + np.array([random.uniform(-drift, drift), random.uniform(-drift, drift)])
    )
    half = _rectangle(-width / 2, -height / 2, width / 2, height / 2) * scale
    return View(size, half @ turn + middle)


def quarter_turned(picture: Image.Image, boxes: np.ndarray, turns: int) -> tuple[Image.Image, np.ndarray]:
    """The picture and its boxes after ``turns`` quarter turns to the left."""
    for _ in range(turns % 4):
        width = picture.width
        picture = picture.transpose(Image.Transpose.ROTATE_90)
        left, top, right, bottom = boxes.T
        boxes = np.stack([top, width - right, bottom, width - left], axis=1)
    return picture, boxes
