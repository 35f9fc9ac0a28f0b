"""Draws batches ahead of the training loop, in processes of their own. No torch here: the processes start quickly."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Full
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from ocr.specimens import geometry
from ocr.specimens.conditions import CONDITIONS
from ocr.specimens.fonts import Faces, faces_with, packaged_faces
from ocr.specimens.specimen import Specimen, make_specimen
from ocr.specimens.writing import Character
from training.examples import MAX_MOVED, TOKEN_SIDE, EyeLabels, card_example, eye_labels, moved
from training.pages import make_page

#: batches that each process keeps ready
AHEAD = 4
#: maximum seconds to draw a batch, on a machine that is busy with other work
MAX_SECONDS = 120
#: pages are a part of a card's size: attention over a picture costs the square of its pixels
PAGE_SHARE = 2
#: share of batches of cards whose pictures have not quite a card's proportions
STRETCHED = 0.3
#: share of batches of pages that are turned by a quarter or more
TURNED_PAGES = 0.12
_STRETCHES = (0.91, 0.95, 1.03, 1.06)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What to draw."""

    seed: int
    #: width and height of cards in pixels
    size: tuple[int, int]
    cards: int
    pages: int
    #: folders of fonts beside the packaged ones
    fonts: tuple[Path, ...]
    #: the token of every character and of every piece between values, and of the end of the turn
    vocabulary: dict[str, int]
    end_of_turn: int
    #: batches made of the same drawn pictures, moved by some pixels
    repeats: int


@dataclass(slots=True)
class Batch:
    """Pictures of one size. Answers are there for cards only."""

    pixels: np.ndarray
    letters: np.ndarray
    fields: np.ndarray
    places: np.ndarray
    #: [pictures, answer] int32, padded with -1
    answers: np.ndarray | None = None
    #: [pictures, answer] int16
    printed_in: np.ndarray | None = None


def read_plan_faces(plan: Plan) -> Faces:
    return faces_with(plan.fonts) if plan.fonts else packaged_faces()


def card_batch(plan: Plan, index: int, condition: str | None = None) -> Batch:
    """Batch ``index`` of cards: the same on every call."""
    specimens = _drawn_cards(plan, index // plan.repeats, condition)
    if index % plan.repeats:
        random = Random(f"moved/{plan.seed}/{index}")  # noqa: S311
        specimens = [moved(random, specimen) for specimen in specimens]
    examples = [card_example(one, lambda text: encode(plan.vocabulary, text), plan.end_of_turn) for one in specimens]
    longest = max(len(example.answer) for example in examples)
    batch = _stack([(example.pixels, example.eye) for example in examples])
    batch.answers = np.full((len(examples), longest), -1, dtype=np.int32)
    batch.printed_in = np.full((len(examples), longest), -1, dtype=np.int16)
    for row, example in enumerate(examples):
        batch.answers[row, : len(example.answer)] = example.answer
        batch.printed_in[row, : len(example.answer)] = example.printed_in
    return batch


@functools.lru_cache(maxsize=1)
def _drawn_cards(plan: Plan, group: int, condition: str | None) -> list[Specimen]:
    faces = read_plan_faces(plan)
    random = Random(f"shapes/{plan.seed}/{group}")  # noqa: S311
    # All of a batch have one shape: quarter turns come in batches of their own, as often as among single cards.
    turned = condition is None and random.random() < CONDITIONS["quarter_turn"] / sum(CONDITIONS.values()) * 1.5
    width, height = plan.size
    if condition is None and random.random() < STRETCHED:
        # Cut a little out of proportion: the processor makes about as many tokens of it, in another shape.
        by = random.choice(_STRETCHES)
        width, height = (TOKEN_SIDE * round(side / TOKEN_SIDE) for side in (width * by, height / by))
    specimens: list[Specimen] = []
    number = group * plan.cards * 4
    while len(specimens) < plan.cards:
        asked = "quarter_turn" if turned else condition
        specimen = make_specimen(plan.seed, number, asked, width=width, height=height, faces=faces)
        number += 1
        if (specimen.image.size != (width, height)) == turned:
            specimens.append(specimen)
    return specimens


def page_batch(plan: Plan, index: int) -> Batch:
    """Batch ``index`` of pages of text; some lie on their side or upside down, as cards do."""
    random = Random(f"moved/{plan.seed}/{index}")  # noqa: S311
    pictures = []
    for pixels, marks in _drawn_pages(plan, index // plan.repeats):
        # A window of the page, another one each time.
        height, width = (side - 2 * MAX_MOVED for side in pixels.shape[:2])
        left, top = random.randint(0, 2 * MAX_MOVED), random.randint(0, 2 * MAX_MOVED)
        window = pixels[top : top + height, left : left + width].astype(np.int16) + random.randint(-14, 14)
        inside = [
            mark._replace(box=(mark.box[0] - left, mark.box[1] - top, mark.box[2] - left, mark.box[3] - top))
            for mark in marks
        ]
        pictures.append((window.clip(0, 255).astype(np.uint8), eye_labels(inside, width, height)))
    return _stack(pictures)


@functools.lru_cache(maxsize=1)
def _drawn_pages(plan: Plan, group: int) -> list[tuple[np.ndarray, list[Character]]]:
    faces = read_plan_faces(plan)
    size = (plan.size[0] // PAGE_SHARE + 2 * MAX_MOVED, plan.size[1] // PAGE_SHARE + 2 * MAX_MOVED)
    numbers = range(group * plan.pages, (group + 1) * plan.pages)
    random = Random(f"turns/{plan.seed}/{group}")  # noqa: S311
    turns = random.randint(1, 3) if random.random() < TURNED_PAGES else 0
    return [_turned(make_page(plan.seed, number, faces, size, plan.size[1]), turns) for number in numbers]


def _turned(page: tuple[np.ndarray, list[Character]], turns: int) -> tuple[np.ndarray, list[Character]]:
    pixels, marks = page
    boxes = np.array([mark.box for mark in marks])
    picture, boxes = geometry.quarter_turned(Image.fromarray(pixels), boxes, turns)
    turned = [mark._replace(box=tuple(box)) for mark, box in zip(marks, boxes.tolist(), strict=True)]
    return np.asarray(picture), turned


def _stack(pictures: list[tuple[np.ndarray, EyeLabels]]) -> Batch:
    return Batch(
        pixels=np.stack([pixels for pixels, _ in pictures]),
        letters=np.concatenate([eye.letters for _, eye in pictures]),
        fields=np.concatenate([eye.fields for _, eye in pictures]),
        places=np.concatenate([eye.places for _, eye in pictures]),
    )


def encode(vocabulary: dict[str, int], text: str) -> list[int]:
    """The tokens of an answer: pieces of JSON whole, everything else by the character. Raises KeyError."""
    ids, at = [], 0
    pieces = [piece for piece in vocabulary if len(piece) > 1]
    while at < len(text):
        piece = next((piece for piece in pieces if text.startswith(piece, at)), text[at])
        ids.append(vocabulary[piece])
        at += len(piece)
    return ids


class Feed:
    """Batches of one kind, drawn by ``processes`` processes, after ``done`` that were taken by an earlier start.

    ``share`` is which of how many trainers this is for: each gets batches of its own.
    """

    def __init__(
        self, plan: Plan, kind: str, *, processes: int, done: int = 0, share: tuple[int, int] = (0, 1)
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._queues = [context.Queue(AHEAD) for _ in range(processes)]
        trainer, trainers = share
        step = processes * trainers
        # A process draws whole groups: batches made of the same pictures.
        first = -(-done // (processes * plan.repeats)) * step + trainer * processes
        self._processes = [
            context.Process(target=_draw, args=(plan, kind, first + i, step, queue), daemon=True)
            for i, queue in enumerate(self._queues)
        ]
        for process in self._processes:
            process.start()

    def __iter__(self) -> Iterator[Batch]:
        """Endless: one batch of each process in turn. Raises RuntimeError if no further batch arrives."""
        while True:
            for queue in self._queues:
                try:
                    yield queue.get(timeout=MAX_SECONDS)
                except Empty:
                    raise RuntimeError(f"No batch was drawn for {MAX_SECONDS} seconds.") from None

    def close(self) -> None:
        for process in self._processes:
            process.terminate()


def _draw(plan: Plan, kind: str, group: int, step: int, queue: Any) -> None:
    # Control-C goes to the trainer, which needs batches until it has ended its step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    draw = card_batch if kind == "cards" else page_batch
    while os.getppid() == parent:
        for again in range(plan.repeats):
            batch = draw(plan, group * plan.repeats + again)
            # With a time-out: if the trainer was killed, its processes must end too.
            while os.getppid() == parent:
                try:
                    queue.put(batch, timeout=5)
                    break
                except Full:
                    continue
        group += step
