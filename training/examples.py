"""Turns specimens into arrays: pixels, answer tokens, and where in the picture each is printed. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image

from ocr.reading.schema import FIELDS
from ocr.specimens.specimen import Specimen
from ocr.specimens.writing import Character
from training.answers import answer_text

#: pixels of a side of the square that becomes one token of the prompt
TOKEN_SIDE = 16
#: places inside a token's square where the eye is asked for a character: columns and rows
COLUMNS, ROWS = 4, 2
#: the characters that may be there; class 0 means none
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,-/'&()+:"
#: maximum characters of a value that are distinguished by their position
MAX_PLACES = 64
#: pixels by which a drawn picture is moved for another use
MAX_MOVED = 8

_CLASS = {character: i + 1 for i, character in enumerate(ALPHABET)}
_FIELD = {field.path: i + 1 for i, field in enumerate(FIELDS)}


@dataclass(slots=True)
class EyeLabels:
    """What the vision tower should find in each token of one picture; -1 where it is not trained."""

    #: [tokens, ROWS * COLUMNS] int8, classes of ``ALPHABET``
    letters: np.ndarray
    #: [tokens, ROWS] int8, 1 + the index in ``FIELDS`` of the value printed there, 0 for none
    fields: np.ndarray
    #: [tokens, ROWS] int8, the place in that value of the first character there, -1 for none
    places: np.ndarray


@dataclass(slots=True)
class CardExample:
    """One picture with its answer."""

    #: [height, width, 3] uint8
    pixels: np.ndarray
    eye: EyeLabels
    #: [answer] int32, with the end of the turn
    answer: np.ndarray
    #: [answer] int16: the picture's token in which the answer's token is printed, -1 for none
    printed_in: np.ndarray


def eye_labels(marks: Sequence[Character], width: int, height: int) -> EyeLabels:
    """Of characters in a picture of ``width`` by ``height`` pixels, both multiples of ``TOKEN_SIDE``."""
    across, down = width // TOKEN_SIDE, height // TOKEN_SIDE
    letters = np.zeros((down * across, ROWS * COLUMNS), dtype=np.int8)
    fields = np.zeros((down * across, ROWS), dtype=np.int8)
    places = np.full((down * across, ROWS), -1, dtype=np.int8)
    for mark in marks:
        x, y = _middle(mark)
        if not (0 <= x < width and 0 <= y < height):
            continue
        token = int(y // TOKEN_SIDE) * across + int(x // TOKEN_SIDE)
        row = int(y % TOKEN_SIDE * ROWS / TOKEN_SIDE)
        letters[token, row * COLUMNS + int(x % TOKEN_SIDE * COLUMNS / TOKEN_SIDE)] = _CLASS.get(mark.text, 0)
        field = _FIELD.get(mark.path, 0)
        place = min(mark.place, MAX_PLACES - 1)
        if not fields[token, row] or place < places[token, row]:
            fields[token, row], places[token, row] = field, place
    return EyeLabels(letters, fields, places)


def card_example(specimen: Specimen, encode: Callable[[str], list[int]], end_of_turn: int) -> CardExample:
    """``encode`` gives the tokens of a text: one for each character of a value, one for each piece between values."""
    pixels = np.asarray(specimen.image)
    height, width = pixels.shape[:2]
    across = width // TOKEN_SIDE
    values = specimen.values
    answer = [*encode(answer_text(values)), end_of_turn]
    starts, at = {}, 1
    for field in FIELDS:
        starts[field.path] = at
        at += len(values[field.path]) + 1
    # There is one piece more than fields, and the end of the turn.
    if at + 1 != len(answer):
        raise ValueError("The tokenizer does not cut the answer into single characters.")
    printed_in = np.full(len(answer), -1, dtype=np.int16)
    for mark in specimen.characters:
        x, y = _middle(mark)
        if 0 <= x < width and 0 <= y < height:
            token = int(y // TOKEN_SIDE) * across + int(x // TOKEN_SIDE)
            printed_in[starts[mark.path] + mark.place] = token
    eye = eye_labels(specimen.characters, width, height)
    return CardExample(pixels, eye, np.array(answer, dtype=np.int32), printed_in)


def moved(random: Random, specimen: Specimen) -> Specimen:
    """The same specimen moved by some pixels and a little lighter or darker, so letters fall differently on the tokens.

    What can be seen of a value stays in the picture.
    """
    import dataclasses

    width, height = specimen.image.size
    right = _shift(random, [(mark.box[0], mark.box[2]) for mark in specimen.characters], width)
    down = _shift(random, [(mark.box[1], mark.box[3]) for mark in specimen.characters], height)
    pixels = np.pad(np.asarray(specimen.image), ((MAX_MOVED, MAX_MOVED), (MAX_MOVED, MAX_MOVED), (0, 0)), "edge")
    top, left = MAX_MOVED - down, MAX_MOVED - right
    pixels = pixels[top : top + height, left : left + width].astype(np.int16) + random.randint(-14, 14)
    marks = tuple(
        mark._replace(box=(mark.box[0] + right, mark.box[1] + down, mark.box[2] + right, mark.box[3] + down))
        for mark in specimen.characters
    )
    return dataclasses.replace(specimen, image=Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), characters=marks)


def _shift(random: Random, spans: Sequence[tuple[float, float]], side: int) -> int:
    """Pixels to move by, such that no span that is inside 0 to ``side`` leaves it."""
    low = max([-MAX_MOVED, *(-int(start) for start, _ in spans)]) if spans else -MAX_MOVED
    high = min([MAX_MOVED, *(int(side - end) for _, end in spans)]) if spans else MAX_MOVED
    return random.randint(min(low, 0), max(high, 0))


def _middle(mark: Character) -> tuple[float, float]:
    left, top, right, bottom = mark.box
    return (left + right) / 2, (top + bottom) / 2
