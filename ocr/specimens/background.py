"""The background of a card: soft colours, waves, and the marks "SPECIMEN".

Nothing imitates a real print.
"""

from __future__ import annotations

import functools
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from ocr.specimens.fonts import Face, font
from ocr.specimens.writing import Colour

MARK = "SPECIMEN – BUKAN KTP"


def clouds(random: Random, size: tuple[int, int], base: Colour, strength: int) -> Image.Image:
    """An RGB image of soft random colours around ``base``. They differ from it by up to ``strength`` of 255."""
    generator = np.random.default_rng(random.getrandbits(64))
    few = generator.integers(-strength, strength + 1, (4, 6, 3)) + np.array(base)
    small = Image.fromarray(few.clip(0, 255).astype(np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def card_background(random: Random, size: tuple[int, int], foreign: bool) -> Image.Image:
    """Pale blue with waves; foreigners' cards are orange, or blue when older."""
    if foreign and random.random() < 0.7:
        base = (random.randint(225, 250), random.randint(190, 220), random.randint(150, 190))
    else:
        base = (random.randint(160, 215), random.randint(195, 230), random.randint(215, 248))
    image = clouds(random, size, base, 14)
    if random.random() < 0.8:
        shift = random.randint(-16, 12)
        ink = tuple(max(0, min(255, channel + shift)) for channel in base)
        image.paste(ink, mask=_waves(size, random.randrange(8)))
    return image


@functools.lru_cache(maxsize=64)
def _waves(size: tuple[int, int], kind: int) -> Image.Image:
    """A mask of soft wavy stripes."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width] / height
    period, bend, turn = 0.04 + 0.02 * (kind % 4), 0.02 * (1 + kind // 4), 0.4 * kind
    phase = (y * np.cos(turn) + x * np.sin(turn) + bend * np.sin(2 * np.pi * x / 0.3)) / period
    return Image.fromarray((100 * (1 + np.sin(2 * np.pi * phase))).astype(np.uint8))


def mark_specimen(image: Image.Image, random: Random, face: Face) -> None:
    """Write "specimen" across the card and into its margin."""
    width, height = image.size
    ink = random.choice(((200, 40, 40), (90, 90, 110), (60, 90, 160)))
    image.paste(ink, mask=_diagonal(image.size, face, random.randrange(3), random.randrange(3)))
    small = font(face, height * 0.033)
    at = (width * random.uniform(0.3, 0.5), height * random.uniform(0.972, 0.985))
    ImageDraw.Draw(image).text(at, MARK, fill=ink, font=small.pillow, anchor="mm")


@functools.lru_cache(maxsize=128)
def _diagonal(size: tuple[int, int], face: Face, tilt: int, strength: int) -> Image.Image:
    width, height = size
    mask = Image.new("L", (width, width), 0)
    letters = font(face, width * 0.075)
    ImageDraw.Draw(mask).text(
        (width / 2, width / 2), MARK, fill=(34, 46, 60)[strength], font=letters.pillow, anchor="mm"
    )
    mask = mask.rotate(20 + 8 * tilt, Image.Resampling.BILINEAR)
    top = (width - height) // 2
    return mask.crop((0, top, width, top + height))


def silhouette(image: Image.Image, random: Random, box: tuple[float, float, float, float]) -> None:
    """A grey head and shoulders in place of the photograph, without a face."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    draw = ImageDraw.Draw(image)
    draw.rectangle(box, fill=random.choice(((190, 40, 50), (40, 70, 160), (170, 175, 180), (205, 205, 205))))
    grey = (random.randint(110, 160),) * 3
    middle = (left + right) / 2
    draw.ellipse((middle - 0.22 * width, top + 0.15 * height, middle + 0.22 * width, top + 0.55 * height), fill=grey)
    draw.pieslice(
        (left + 0.08 * width, top + 0.58 * height, right - 0.08 * width, bottom + 0.4 * height), 180, 360, grey
    )


def scribble(image: Image.Image, random: Random, box: tuple[float, float, float, float]) -> None:
    """A meaningless line in place of the signature."""
    left, top, right, bottom = box
    points = [(left + (right - left) * i / 9, random.uniform(top, bottom)) for i in range(10)]
    ImageDraw.Draw(image).line(points, fill=(40, 40, 60), width=max(1, image.width // 400), joint="curve")
