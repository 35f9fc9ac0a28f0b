"""Draws batches ahead of the training loop, in processes of their own. No torch here: the processes start quickly."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Full
from random import Random
from typing import Any

import numpy as np

from ocr.specimens.conditions import CONDITIONS
from ocr.specimens.fonts import Faces, faces_with, packaged_faces
from ocr.specimens.specimen import make_specimen
from training.examples import CardExample, EyeLabels, card_example, eye_labels, shifted
from training.pages import make_page

#: batches that wait ready for each process
AHEAD = 4
#: pages are a part of a card's size: attention over a picture costs the square of its pixels
PAGE_SHARE = 2


@dataclass(frozen=True, slots=True)
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
    #: times each drawn batch is used, a little lighter or darker
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
    faces = read_plan_faces(plan)
    width, height = plan.size
    random = Random(f"turns/{plan.seed}/{index}")  # noqa: S311
    # All of a batch have one shape: quarter turns come in batches of their own, as often as among single cards.
    turned = condition is None and random.random() < CONDITIONS["quarter_turn"] / sum(CONDITIONS.values()) * 1.5
    examples: list[CardExample] = []
    number = index * plan.cards * 4
    while len(examples) < plan.cards:
        asked = "quarter_turn" if turned else condition
        specimen = make_specimen(plan.seed, number, asked, width=width, height=height, faces=faces)
        number += 1
        if (specimen.image.size != (width, height)) == turned:
            examples.append(card_example(specimen, lambda text: encode(plan.vocabulary, text), plan.end_of_turn))
    longest = max(len(example.answer) for example in examples)
    batch = _stack([(example.pixels, example.eye) for example in examples])
    batch.answers = np.full((len(examples), longest), -1, dtype=np.int32)
    batch.printed_in = np.full((len(examples), longest), -1, dtype=np.int16)
    for row, example in enumerate(examples):
        batch.answers[row, : len(example.answer)] = example.answer
        batch.printed_in[row, : len(example.answer)] = example.printed_in
    return batch


def page_batch(plan: Plan, index: int) -> Batch:
    """Batch ``index`` of pages of text."""
    faces = read_plan_faces(plan)
    width, height = plan.size[0] // PAGE_SHARE, plan.size[1] // PAGE_SHARE
    pictures = []
    for number in range(index * plan.pages, (index + 1) * plan.pages):
        pixels, marks = make_page(plan.seed, number, faces, (width, height), plan.size[1])
        pictures.append((pixels, eye_labels(marks, width, height)))
    return _stack(pictures)


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
    """Batches of one kind, drawn by ``processes`` processes, from batch ``start`` on."""

    def __init__(self, plan: Plan, kind: str, *, processes: int, start: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._queues = [context.Queue(AHEAD) for _ in range(processes)]
        self._plan = plan
        self._processes = [
            context.Process(target=_draw, args=(plan, kind, start + i, processes, queue), daemon=True)
            for i, queue in enumerate(self._queues)
        ]
        for process in self._processes:
            process.start()

    def __iter__(self) -> Iterator[tuple[Batch, bool]]:
        """Endless: batches in the order of their numbers, and whether the batch is new."""
        while True:
            for queue in self._queues:
                batch = queue.get()
                random = Random(0)  # noqa: S311
                for again in range(self._plan.repeats):
                    if again:
                        batch.pixels = shifted(random, batch.pixels)
                    yield batch, not again

    def close(self) -> None:
        for process in self._processes:
            process.terminate()


def _draw(plan: Plan, kind: str, start: int, step: int, queue: Any) -> None:
    parent = os.getppid()
    index = start
    while os.getppid() == parent:
        batch = card_batch(plan, index) if kind == "cards" else page_batch(plan, index)
        index += step
        # Not for ever: a trainer that was killed takes no more, and its processes must not stay behind.
        while os.getppid() == parent:
            try:
                queue.put(batch, timeout=5)
                break
            except Full:
                continue
