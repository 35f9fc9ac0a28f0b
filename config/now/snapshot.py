"""What runs at this moment, for the front page of the admin: read once for all viewers of a process."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from asgiref.sync import async_to_sync
from django.db.models import Count, Min, Q
from django.utils import timezone

from config.now.sharing import SharedCache
from inference.models import ModelWorker
from inference.worker.load import WorkerLoad
from ocr.models import KtpExtraction
from sessions_app.broker_probe import broker_answers
from sessions_app.history import series
from sessions_app.models import ChatSession
from sessions_app.token_limits import TOKEN_LIMIT, token_limit
from sessions_app.token_rates import tokens_per_second

#: how long a snapshot is reused; pages refresh every two seconds
SNAPSHOT_SECONDS = 1.5
#: how long a history is reused; processes add to it every ten seconds
HISTORY_SECONDS = 5.0
#: maximum rows of the running list
MAX_ROWS = 50
MAX_WORKERS = 50
#: seconds for which a worker is shown that disappeared without a final heartbeat
SHOW_GONE_SECONDS = 900
#: minutes that the percentiles of the time to the first token cover
RECENT_MINUTES = 15


@dataclasses.dataclass(frozen=True, slots=True)
class RunningSession:
    """A line of the running list."""

    id: str
    caller: str
    origin: str
    model: str
    worker: str
    attempt: int
    is_cancelling: bool
    created_at: datetime.datetime
    age: datetime.timedelta
    #: tokens generated so far, and the limit of all its answers together
    tokens: int
    max_tokens: int | None
    tokens_per_second: float


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerLine:
    """A worker with its last report."""

    worker: ModelWorker
    load: WorkerLoad
    condition: ModelWorker.Condition
    heartbeat: datetime.timedelta

    @property
    def is_alive(self) -> bool:
        return self.condition not in (ModelWorker.Condition.GONE, ModelWorker.Condition.STOPPED)


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    running: int
    waiting: int
    #: how long the first session of the queue has waited
    oldest: datetime.timedelta | None
    sessions: Sequence[RunningSession]
    workers: Sequence[WorkerLine]
    broker_answers: bool
    #: cards that wait for a reviewer
    to_review: int

    @property
    def tokens_per_second(self) -> float:
        return sum(line.load.tokens_per_second for line in self.workers if line.is_alive)

    @property
    def further_sessions(self) -> int:
        """Running sessions that are not in ``sessions``."""
        return max(0, self.running - len(self.sessions))

    @property
    def has_worker(self) -> bool:
        return any(line.is_alive for line in self.workers)


@dataclasses.dataclass(frozen=True, slots=True)
class Recent:
    """Failures of the last hour, and times to the first token of the last ``RECENT_MINUTES``."""

    failed: int
    cancelled: int
    p50: datetime.timedelta | None
    p95: datetime.timedelta | None


def _read_snapshot() -> Snapshot:
    now = timezone.now()
    counts = ChatSession.objects.unfinished().aggregate(
        waiting=Count("pk", filter=Q(state=ChatSession.State.QUEUED)),
        running=Count("pk", filter=Q(state=ChatSession.State.RUNNING)),
        oldest=Min("enqueued_at", filter=Q(state=ChatSession.State.QUEUED)),
    )
    return Snapshot(
        running=counts["running"],
        waiting=counts["waiting"],
        oldest=max(now - counts["oldest"], datetime.timedelta()) if counts["oldest"] else None,
        sessions=_running(now),
        workers=_workers(now),
        broker_answers=async_to_sync(broker_answers)(),
        to_review=KtpExtraction.objects.waiting_for_review().count(),
    )


def _running(now: datetime.datetime) -> list[RunningSession]:
    # Not the requests: one may be megabytes of text.
    names = ("pk", "caller", "origin", "model", "worker", "attempt", "cancel_requested_at", "created_at")
    rows = list(ChatSession.objects.running().order_by("created_at").values(*names, "completion_tokens")[:MAX_ROWS])
    ids = [row["pk"] for row in rows]
    rates = tokens_per_second(ids) if ids else {}
    limits = _limits.of(rows)
    return [
        RunningSession(
            id=row["pk"],
            caller=row["caller"],
            origin=row["origin"],
            model=row["model"],
            worker=row["worker"],
            attempt=row["attempt"],
            is_cancelling=row["cancel_requested_at"] is not None,
            created_at=row["created_at"],
            age=now - row["created_at"],
            tokens=row["completion_tokens"] or 0,
            max_tokens=limits.get(row["pk"]),
            tokens_per_second=rates.get(row["pk"], 0.0),
        )
        for row in rows
    ]


class _TokenLimits:
    """The token limits of running sessions, read once for each: the database reads the whole request for it."""

    def __init__(self) -> None:
        self._known: dict[str, int | None] = {}

    def of(self, rows: Iterable[Mapping[str, Any]]) -> dict[str, int | None]:
        """The limits of these sessions. That of a session without a token is read again: it may begin to think."""
        begun = {row["pk"]: bool(row["completion_tokens"]) for row in rows}
        new = [session_id for session_id in begun if session_id not in self._known]
        found = ChatSession.objects.filter(pk__in=new).values_list("pk", *TOKEN_LIMIT) if new else ()
        read = {session_id: token_limit(*limit) for session_id, *limit in found}
        limits = {session_id: self._known.get(session_id, read.get(session_id)) for session_id in begun}
        self._known = {session_id: limit for session_id, limit in limits.items() if begun[session_id]}
        return limits


_limits = _TokenLimits()


def _workers(now: datetime.datetime) -> list[WorkerLine]:
    since = now - datetime.timedelta(seconds=SHOW_GONE_SECONDS)
    shown = ModelWorker.objects.filter(heartbeat_at__gt=since).exclude(state=ModelWorker.State.STOPPED)
    return [
        WorkerLine(worker, WorkerLoad.from_json(worker.load), worker.condition, now - worker.heartbeat_at)
        for worker in shown.defer("vision").order_by("started_at", "name")[:MAX_WORKERS]
    ]


def _read_recent() -> Recent:
    hour, latest = series.last_minutes(60), series.last_minutes(RECENT_MINUTES)
    half, most = (
        None if (seconds := latest.first_token(share)) is None else datetime.timedelta(seconds=seconds)
        for share in (0.5, 0.95)
    )
    return Recent(hour.count("failed"), hour.count("cancelled"), half, most)


snapshot = SharedCache(_read_snapshot, seconds=SNAPSHOT_SECONDS)
recent = SharedCache(_read_recent, seconds=HISTORY_SECONDS)
