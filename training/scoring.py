"""How well held-out cards are read while training goes on: quick, and a little kinder than a true reading.

The right answer so far is given at every step. A card that is wholly right here is wholly right when read for true; a
single field may profit from a neighbour that would have been wrong. Report figures of ``evaluate_ktp``, not these.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch

from ocr.reading.schema import FIELDS
from training.feed import Batch
from training.passes import Passes


@dataclass(slots=True)
class Score:
    cards: int = 0
    #: cards without an error
    exact: int = 0
    #: fields without one
    fields: int = 0
    niks: int = 0
    #: digits of NIKs, and those that are right
    digits: int = 0
    right_digits: int = 0

    def as_shares(self) -> dict[str, float]:
        return {
            "card_exact": self.exact / self.cards,
            "field_exact": self.fields / self.cards / len(FIELDS),
            "nik_exact": self.niks / self.cards,
            "nik_digits": self.right_digits / max(1, self.digits),
        }


@torch.no_grad()
def score(passes: Passes, batches: list[Batch], pieces: set[int]) -> Score:
    """``pieces`` are the tokens of JSON between values: a field begins after one."""
    total = Score()
    for batch in batches:
        if batch.answers is None:
            raise ValueError("Pages have no answers to score.")
        answers = torch.from_numpy(batch.answers).long()
        size = (batch.pixels.shape[2], batch.pixels.shape[1])
        seen = passes.see(torch.from_numpy(batch.pixels))
        logits, _ = passes.read(seen, answers.clamp(min=0).to(passes.device), size)
        right = (logits.argmax(-1).cpu() == answers).numpy()
        for row, marks in zip(batch.answers, right, strict=True):
            _add(total, row, marks, pieces)
    return total


def _add(total: Score, answer: np.ndarray, right: np.ndarray, pieces: set[int]) -> None:
    length = int((answer >= 0).sum())
    starts = [i for i in range(length) if int(answer[i]) in pieces]
    # The piece after a value counts too: a value that goes on too long is wrong.
    fields = [bool(right[a + 1 : b + 1].all()) for a, b in itertools.pairwise(starts)]
    total.cards += 1
    total.exact += bool(right[:length].all())
    total.fields += sum(fields)
    total.niks += fields[0]
    total.digits += starts[1] - starts[0] - 1
    total.right_digits += int(right[starts[0] + 1 : starts[1]].sum())
