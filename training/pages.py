"""Pages full of characters in the styles of cards: where the eye learns its letters before it sees a card.

A card has some 150 characters on 160 tokens; a page has several times as many, in no order that could be guessed.
"""

from __future__ import annotations

from random import Random

import numpy as np

from ocr.specimens import conditions, geometry, names
from ocr.specimens.background import card_background, mark_specimen
from ocr.specimens.fonts import Faces, font
from ocr.specimens.writing import Character, Page, characters
from training.examples import ALPHABET

#: conditions of cards that pages are shown in, and how often
_CONDITIONS = {"flat": 10, "dim": 2, "blur": 2, "glare": 1, "jpeg": 2, "small": 1, "photocopy": 2, "screen": 1}
_VIEWS = {"flat": 4, "nudged": 4, "tilted": 2}


def make_page(
    seed: int, index: int, faces: Faces, size: tuple[int, int], card_height: int
) -> tuple[np.ndarray, list[Character]]:
    """Pixels [height, width, 3] and the characters of page ``index``; letters as on cards of ``card_height`` pixels."""
    random = Random(f"page/{seed}/{index}")  # noqa: S311
    grown = random.choice((1.0, 1.25, 1.5))
    drawn = (round(size[0] * grown), round(size[1] * grown))
    page = Page(card_background(random, drawn, random.random() < 0.1))
    _fill(random, page, faces, card_height * grown * random.choice((1, 1, random.uniform(0.8, 0.97))))
    if random.random() < 0.7:
        mark_specimen(page.image, random, random.choice(faces.bold))
    kind = random.choices(tuple(_VIEWS), tuple(_VIEWS.values()))[0]
    view = geometry.filling(size)
    if kind != "flat":
        view = (geometry.tilted if kind == "tilted" else geometry.nudged)(random, size)
    condition = random.choices(tuple(_CONDITIONS), tuple(_CONDITIONS.values()))[0]
    picture = conditions.spoil(random, condition, conditions.lay(random, view, page.image), letters_of=512)
    boxes = view.place_boxes(page.boxes(), drawn)
    return np.asarray(picture), list(characters(page.marks(), boxes))


def _fill(random: Random, page: Page, faces: Faces, card_height: float) -> None:
    width, height = page.image.size
    dark = random.randint(0, 75)
    y = random.uniform(0, 0.05) * card_height
    while y < height:
        number = random.random() < 0.2
        face = random.choice(faces.number if number else (*faces.regular, *faces.regular, *faces.bold))
        em = card_height * (random.uniform(0.056, 0.076) if number else random.uniform(0.039, 0.05))
        letters = font(face, em)
        spacing = random.choice((0, 0, 0, random.uniform(0, 0.06))) * em
        x = random.uniform(0, 0.04) * width
        while x < width:
            text = _text(random, number)
            x = page.write(text, x, y, letters, (dark, dark, dark + 15), spacing=spacing, path="page")
            x += random.uniform(0.2, 1.2) * em
        y += card_height * random.uniform(0.05, 0.056) * (1.25 if number else 1)


def _text(random: Random, number: bool) -> str:
    if number:
        return "".join(random.choices("0123456789", k=random.randint(4, 16)))
    kind = random.random()
    if kind < 0.45:
        return "".join(random.choices(ALPHABET, k=random.randint(3, 12)))
    if kind < 0.6:
        return "".join(random.choices("0123456789-/", k=random.randint(3, 10)))
    return names.place(random)
