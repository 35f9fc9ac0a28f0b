"""What this process has counted so far, by the names that the history keeps.

The counts are those of Prometheus: what ``/metrics`` shows and what the charts show cannot differ. Modules that own
further counters add them with ``counted_by``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import Counter as PrometheusCounter
from prometheus_client import Histogram

from sessions_app import metrics

Counts = dict[str, int]

#: responses with this HTTP status or a higher one are errors of the server
SERVER_ERROR = 500
_STATES = {"abort": "cancelled", "error": "failed"}

_sources: list[Callable[[], Counts]] = []


def counted_by(source: Callable[[], Counts]) -> Callable[[], Counts]:
    """Have ``source`` asked for its counts, which only grow. Fit as a decorator."""
    _sources.append(source)
    return source


def counts() -> Counts:
    """All counts of this process since it started."""
    return {name: count for source in _sources for name, count in source().items()}


def total(counter: PrometheusCounter) -> int:
    return int(sum(value for _, value in _values(counter)))


def buckets(name: str, histogram: Histogram) -> Counts:
    """How often something was observed in each bucket, as ``name:lower:upper`` with the bounds of the bucket."""
    found: Counts = {}
    lower, below = 0.0, 0
    for labels, value in _samples(histogram, "_bucket"):
        upper = float(labels["le"])
        found[f"{name}:{lower:g}:{upper:g}"] = int(value) - below
        lower, below = upper, int(value)
    return found


def _values(counter: PrometheusCounter) -> Iterator[tuple[dict[str, str], float]]:
    return _samples(counter, "_total")


def _samples(metric: PrometheusCounter | Histogram, suffix: str) -> Iterator[tuple[dict[str, str], float]]:
    for family in metric.collect():
        for sample in family.samples:
            if sample.name.endswith(suffix):
                yield sample.labels, sample.value


@counted_by
def _sessions() -> Counts:
    found = {"opened": total(metrics.sessions_opened), "completed": 0, "cancelled": 0, "failed": 0}
    for labels, value in _values(metrics.finished):
        found[_STATES.get(labels["finished_reason"], "completed")] += int(value)
    return found


@counted_by
def _streams_and_answers() -> Counts:
    errors = sum(value for labels, value in _values(metrics.http_requests) if int(labels["status"]) >= SERVER_ERROR)
    return {"resumes": total(metrics.resumes), "errors": int(errors)}
