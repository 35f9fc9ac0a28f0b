"""What is counted of sessions and of requests, for Prometheus. Names mean what vLLM's of the same name mean.

Every label has a small, fixed set of values: nothing that a caller chooses becomes one. ``docs/monitoring.md`` lists
the metrics, those of the layers above too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import prometheus_client
from django.conf import settings
from django.http import HttpRequest
from django.urls import ResolverMatch
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector
from prometheus_client.multiprocess import mark_process_dead

#: the time at which each series began adds nothing to its values
prometheus_client.disable_created_metrics()

#: the metrics of this process; with ``METRICS_DIR`` their values are in files there
REGISTRY = CollectorRegistry()
if settings.METRICS_DIR:
    # A killed process may have had this process's number, as the first process of a container always does. Its counts
    # are continued; its listeners are removed.
    mark_process_dead(os.getpid(), settings.METRICS_DIR)
else:
    ProcessCollector(registry=REGISTRY)

http_requests = Counter(
    "sambung:http_requests",
    "Responses, by route and status. A stream is counted when it begins.",
    ["endpoint", "status"],
    registry=REGISTRY,
)
sessions_opened = Counter(
    "sambung:sessions_opened", "Sessions opened, by origin: chat or ocr.", ["origin"], registry=REGISTRY
)
media = Counter("sambung:media", "Images and videos of opened sessions.", ["kind"], registry=REGISTRY)
finished = Counter(
    "sambung:request_success",
    "Ended sessions by finish reason: stop, length, tool_calls, content_filter, abort (cancelled) or error (failed).",
    ["finished_reason"],
    registry=REGISTRY,
)
listeners = Gauge(
    "sambung:listeners",
    "Open streams, live views, and callers waiting for a whole answer.",
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
resumes = Counter("sambung:resumes", "Streams resumed after a cursor (Last-Event-ID).", registry=REGISTRY)
hub_gaps = Counter(
    "sambung:hub_gaps", "Reads of chunks for which a listener had received no wake-up.", registry=REGISTRY
)

FINISHED_REASONS = ("stop", "length", "tool_calls", "content_filter", "abort", "error")
for _reason in FINISHED_REASONS:
    finished.labels(_reason)
for _kind in ("image", "video"):
    media.labels(_kind)


def count_request(request: HttpRequest, status: int) -> None:
    """Count one response, under its route."""
    http_requests.labels(_endpoint(request), str(status)).inc()


def _endpoint(request: HttpRequest) -> str:
    match: ResolverMatch | None = request.resolver_match
    if match is None:
        is_static = request.path_info.startswith(settings.WHITENOISE_STATIC_PREFIX)
        return "static" if is_static else "unknown"
    # The admin has some hundred routes, and only people use them.
    if match.namespaces and match.namespaces[0] == "admin":
        return "admin"
    return f"/{match.route}"


def count_opened(origin: str, kinds: Iterable[str]) -> None:
    """Count a new session, with the kinds of its media."""
    sessions_opened.labels(origin).inc()
    for kind in kinds:
        media.labels(kind).inc()


def count_end(state: str, reason: str) -> None:
    """Count a session that has ended, by its state and, where it was completed, its finish reason."""
    name = {"failed": "error", "cancelled": "abort"}.get(state, reason)
    finished.labels(name if name in FINISHED_REASONS else "stop").inc()
