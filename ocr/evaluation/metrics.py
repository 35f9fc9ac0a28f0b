"""The figures. Each is defined where it is computed; shares have a Wilson interval.

All figures are about cards, except the rejection, which is about other pictures. A picture has no reading if the reader
failed or the model's answer could not be parsed. It then counts as wrong in every field, and not as a rejection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

import numpy as np
from rapidfuzz.distance import Levenshtein

from ocr.evaluation.results import Result, normalise
from ocr.reading.schema import FIELDS

NIK_DIGITS = 16

#: a value less similar to the printed one than this scores 0 (ANLS)
ANLS_THRESHOLD = 0.5

#: standard deviations to both sides that hold 95% of a normal distribution
_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Rate:
    """A share, as two counts: ``hits`` of ``of`` cases."""

    hits: int
    of: int

    @property
    def share(self) -> float | None:
        """The share; None if the total is 0."""
        return self.hits / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's score interval at 95% (Wilson 1927). It holds for few cards, and at 0% and 100%.

        It assumes independent cases. Fields of one card and digits of one NIK are dependent, so their intervals are
        too narrow.
        """
        if not self.of:
            return None
        share, z2_n = self.hits / self.of, _Z**2 / self.of
        centre = (share + z2_n / 2) / (1 + z2_n)
        half = math.sqrt(z2_n * (share * (1 - share) + z2_n / 4)) / (1 + z2_n)
        return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one group of results."""

    cards: int
    #: number of pictures that show something else
    others: int
    #: number of pictures without an answer of the reader
    failed: int
    #: answers that could not be parsed as a reading
    unreadable: int
    #: cards with every field as printed
    card_exact: Rate
    field_exact: Rate
    #: right NIKs, of the cards with a visible NIK
    nik_exact: Rate
    #: right digits, position by position: after a missing digit all are wrong
    nik_digits: Rate
    #: wrong fields without a flag, of all fields
    wrong_unflagged: Rate
    #: flagged fields, of the right fields: the cost of flagging
    right_flagged: Rate
    #: filled-in fields, of the hidden fields
    invented: Rate
    #: empty readings, of the other pictures
    rejected: Rate
    #: by path
    exact_by_field: dict[str, Rate]
    #: edits that turn the reading into the printed text, per printed character; may be above 1
    cer: float | None
    anls_star: float | None
    #: seconds per answered picture
    p50: float | None
    p95: float | None


def figures(results: Sequence[Result]) -> Figures:
    """The figures of these results; figures about cards or other pictures are None if there are none."""
    cards = [result for result in results if result.specimen.is_card]
    others = [result for result in results if not result.specimen.is_card]
    answered = [result for result in results if not result.answer.error]
    nik_seen = [card for card in cards if card.specimen.values["nik"]]
    wrong = [set(card.wrong) for card in cards]
    fields = len(cards) * len(FIELDS)
    p50, p95 = _percentiles([result.answer.seconds for result in answered])
    return Figures(
        cards=len(cards),
        others=len(others),
        failed=len(results) - len(answered),
        unreadable=sum(not result.answer.has_reading for result in answered),
        card_exact=Rate(sum(not paths for paths in wrong), len(cards)),
        field_exact=Rate(fields - sum(map(len, wrong)), fields),
        nik_exact=Rate(sum("nik" not in card.wrong for card in nik_seen), len(nik_seen)),
        nik_digits=Rate(sum(map(_right_digits, nik_seen)), NIK_DIGITS * len(nik_seen)),
        wrong_unflagged=Rate(sum(len(card.wrong_and_unflagged) for card in cards), fields),
        right_flagged=Rate(sum(len(card.right_and_flagged) for card in cards), fields - sum(map(len, wrong))),
        invented=Rate(
            sum(len(card.invented) for card in cards),
            sum(len(card.specimen.hidden) for card in cards),
        ),
        rejected=Rate(sum(other.is_rejection for other in others), len(others)),
        exact_by_field={
            field.path: Rate(sum(field.path not in paths for paths in wrong), len(cards)) for field in FIELDS
        },
        cer=_character_error_rate(cards),
        anls_star=fmean(map(_anls_star, cards)) if cards else None,
        p50=p50,
        p95=p95,
    )


def _right_digits(card: Result) -> int:
    read, printed = normalise(card.answer.values["nik"]), normalise(card.specimen.values["nik"])
    return sum(mine == theirs for mine, theirs in zip(read, printed, strict=False))


def _character_error_rate(cards: Sequence[Result]) -> float | None:
    """Levenshtein edits over all fields with something printed, divided by the characters printed there."""
    edits = characters = 0
    for card in cards:
        for path, printed in card.specimen.values.items():
            if printed:
                edits += Levenshtein.distance(normalise(card.answer.values[path]), normalise(printed))
                characters += len(normalise(printed))
    return edits / characters if characters else None


def _anls_star(card: Result) -> float:
    """The mean over the card's fields of 1 - edits / length of the longer text, 0 below the threshold.

    This is ANLS* (Peer et al. 2024, arXiv:2402.03848) for a dictionary of texts: every leaf counts once, two empty
    texts are equal, and without a reading the score is 0.
    """
    if not card.answer.has_reading:
        return 0.0
    return fmean(
        Levenshtein.normalized_similarity(
            normalise(card.answer.values[path]), normalise(printed), score_cutoff=ANLS_THRESHOLD
        )
        for path, printed in card.specimen.values.items()
    )


def _percentiles(seconds: Sequence[float]) -> tuple[float | None, float | None]:
    """The 50th and the 95th percentile, interpolated linearly."""
    if not seconds:
        return None, None
    p50, p95 = np.percentile(seconds, [50, 95])
    return float(p50), float(p95)
