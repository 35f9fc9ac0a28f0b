"""Metrics of the whole installation: the queue and the workers, read from the database at each scrape.

Every web process reports the same values, so a dashboard must take the maximum and not the sum.
"""

from __future__ import annotations

import asyncio
import logging

from django.db import Error as DatabaseError
from django.db.models import Count, Min, Q
from django.utils import timezone
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from inference.models import ModelWorker
from inference.readiness import DATABASE_SECONDS
from sessions_app.db import in_db
from sessions_app.models import ChatSession

log = logging.getLogger(__name__)

DRAINING = "draining"


async def read_facts() -> list[Metric]:
    """Never raises: if the database does not answer, ``sambung:database_up`` is the only metric."""
    try:
        async with asyncio.timeout(DATABASE_SECONDS):
            return [_database_up(1), *await in_db(_read)]
    except (DatabaseError, TimeoutError) as exc:
        log.warning("the queue could not be read for the metrics: %s", exc or "the database does not answer")
        return [_database_up(0)]


def _database_up(value: int) -> Metric:
    return GaugeMetricFamily("sambung:database_up", "Whether the database answered this scrape.", value=value)


def _read() -> list[Metric]:
    found = ChatSession.objects.unfinished().aggregate(
        waiting=Count("pk", filter=Q(state=ChatSession.State.QUEUED)),
        running=Count("pk", filter=Q(state=ChatSession.State.RUNNING)),
        oldest=Min("enqueued_at", filter=Q(state=ChatSession.State.QUEUED)),
    )
    oldest = max(0.0, (timezone.now() - found["oldest"]).total_seconds()) if found["oldest"] else 0.0
    workers = GaugeMetricFamily(
        "sambung:workers",
        "Workers that are alive, by state; draining workers are ready but claim no more sessions.",
        labels=["state"],
    )
    counts = dict.fromkeys((*_LIVING, DRAINING), 0)
    for state, is_drained in ModelWorker.objects.alive().values_list("state", "drain"):
        state = DRAINING if is_drained and state == ModelWorker.State.READY else state
        if state in counts:
            counts[state] += 1
    for state, count in counts.items():
        workers.add_metric([str(state)], count)
    return [
        GaugeMetricFamily("sambung:num_requests_waiting", "Sessions waiting for a worker.", value=found["waiting"]),
        GaugeMetricFamily("sambung:num_requests_running", "Sessions running on a worker.", value=found["running"]),
        GaugeMetricFamily(
            "sambung:oldest_waiting_seconds",
            "How long the session that has waited longest has been waiting.",
            value=oldest,
        ),
        workers,
    ]


#: states of living workers; a stopped worker is not alive
_LIVING = (ModelWorker.State.LOADING, ModelWorker.State.READY, ModelWorker.State.FAILED)
