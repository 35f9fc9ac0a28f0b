"""End a reading of the sandbox at once, as a model would have ended it, without asking one."""

from __future__ import annotations

import math

from django.conf import settings
from django.db import transaction

from ocr.models import KtpExtraction
from ocr.reading import confidence
from ocr.reading.judging import judge_answer
from ocr.reading.parsing import storable
from ocr.sandbox.outcomes import Outcome

#: a probability below every useful ``OCR_DOUBT_BELOW``
LOW_PROBABILITY = 0.2


@transaction.atomic
def end(extraction: KtpExtraction, outcome: Outcome) -> None:
    if outcome.failure:
        extraction.mark_failed(outcome.failure)
        return
    tokens = _tokens(outcome)
    reading = judge_answer(outcome.text, finish_reason=outcome.finish_reason, tokens=tokens)
    extraction.mark_read(
        values=reading.values,
        raw_answer=storable(outcome.text),
        found=reading.problems,
        confidence=confidence.least_probabilities(tokens),
    )


def _tokens(outcome: Outcome) -> list[confidence.Token]:
    """One token for each letter, or none if probabilities are switched off."""
    if not settings.OCR_DOUBT_BELOW:
        return []
    begin = outcome.text.index(outcome.uncertain)
    uncertain = range(begin, begin + len(outcome.uncertain))
    return [
        confidence.Token(letter.encode(), math.log(LOW_PROBABILITY) if place in uncertain else 0.0)
        for place, letter in enumerate(outcome.text)
    ]
