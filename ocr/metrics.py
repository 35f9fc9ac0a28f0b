"""Prometheus counters of readings. They contain no card data: the labels are our own codes, and few."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import Counter

from ocr.reading.problem_texts import TEXTS
from ocr.reading.problems import Problem, is_flagged
from sessions_app.metrics import REGISTRY

readings = Counter(
    "sambung:ocr_readings", "Cards read, by whether a value was flagged for review.", ["flagged"], registry=REGISTRY
)
problems = Counter("sambung:ocr_problems", "Problems found on cards, by code.", ["code"], registry=REGISTRY)

for _flagged in ("yes", "no"):
    readings.labels(_flagged)


def count_reading(found: Sequence[Problem]) -> None:
    """Count one card that was read."""
    readings.labels("yes" if is_flagged(found) else "no").inc()
    for problem in found:
        problems.labels(problem.code if problem.code in TEXTS else "other").inc()
