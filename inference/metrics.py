"""Metrics of the sessions that run here: times, tokens, commits and the engine. For worker processes only.

Sessions are measured at their commits, every ``CHUNK_COMMIT_SECONDS``, and never for each token. The engine does not
know about metrics: it counts plain numbers, which are read at every heartbeat.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from django.conf import settings
from django.utils import timezone
from prometheus_client import Counter, Gauge, Histogram

from inference.attempt_spans import AttemptSpans
from sessions_app.history import counting
from sessions_app.metrics import REGISTRY, count_end
from sessions_app.models import ChatSession
from sessions_app.store.appending import Append, Closing

WAIT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
TOKEN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5, 5, 10)
WHOLE_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
COMMIT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

queue_time = Histogram(
    "sambung:request_queue_time_seconds",
    "Time from opening a session to its first claim by a worker.",
    buckets=WAIT_BUCKETS,
    registry=REGISTRY,
)
first_token = Histogram(
    "sambung:time_to_first_token_seconds",
    "Time from opening a session to committing its first token.",
    buckets=WAIT_BUCKETS,
    registry=REGISTRY,
)
inter_token = Histogram(
    "sambung:inter_token_latency_seconds",
    "Time per token between two commits of a session: the interval divided by the tokens of the second.",
    buckets=TOKEN_BUCKETS,
    registry=REGISTRY,
)
per_output_token = Histogram(
    "sambung:request_time_per_output_token_seconds",
    "Of completed sessions: time from the first token to the end, divided by the tokens after the first.",
    buckets=TOKEN_BUCKETS,
    registry=REGISTRY,
)
whole = Histogram(
    "sambung:e2e_request_latency_seconds",
    "Time from opening a session to its end, for sessions that a worker ended, in whatever state.",
    buckets=WHOLE_BUCKETS,
    registry=REGISTRY,
)
prompt_tokens = Counter(
    "sambung:prompt_tokens", "Prompt tokens of completed and cancelled sessions.", registry=REGISTRY
)
generation_tokens = Counter("sambung:generation_tokens", "Generated tokens that were committed.", registry=REGISTRY)
takeovers = Counter(
    "sambung:takeovers",
    "Claims of sessions that an earlier attempt had started and lost or released.",
    registry=REGISTRY,
)
commit_time = Histogram(
    "sambung:commit_seconds",
    "Duration of a commit, which holds the pending chunks of all sessions.",
    buckets=COMMIT_BUCKETS,
    registry=REGISTRY,
)
fenced_appends = Counter(
    "sambung:fenced_appends", "Appends refused because another worker had claimed the session.", registry=REGISTRY
)
commit_failures = Counter(
    "sambung:commit_failures", "Commits that the database did not accept; they are retried.", registry=REGISTRY
)

batch_rows = Gauge(
    "sambung:batch_rows", "Occupied rows of the running batch.", registry=REGISTRY, multiprocess_mode="livesum"
)
batch_rows_max = Gauge(
    "sambung:batch_rows_max", "Maximum rows of the running batch.", registry=REGISTRY, multiprocess_mode="livesum"
)
kv_cache_usage = Gauge(
    "sambung:kv_cache_usage_perc",
    "Share of the KV cache in use by running rows, 0 to 1; the highest of several workers.",
    registry=REGISTRY,
    multiprocess_mode="livemax",
)
decode_steps = Counter(
    "sambung:decode_steps", "Decode steps of the batch; each generates one token for every row.", registry=REGISTRY
)
prefix_queries = Counter(
    "sambung:prefix_cache_queries", "Prompt tokens looked up in the prefix cache.", registry=REGISTRY
)
prefix_hits = Counter(
    "sambung:prefix_cache_hits", "Prompt tokens found in the prefix cache and not prefilled again.", registry=REGISTRY
)
preemptions = Counter(
    "sambung:num_preemptions", "Rows preempted and requeued because the KV cache was full.", registry=REGISTRY
)
engine_bytes = Gauge(
    "sambung:engine_resident_bytes",
    "Memory of the engine's process.",
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
engine_cpu_seconds = Counter(
    "sambung:engine_cpu_seconds", "Processor time of the engine's process, in seconds.", registry=REGISTRY
)
engine_losses = Counter(
    "sambung:engine_losses", "Engines whose process ended unexpectedly; the model is loaded again.", registry=REGISTRY
)
#: field of ``EngineStats`` → metric
ENGINE_COUNTS = {
    "decode_steps": decode_steps,
    "prompt_tokens": prefix_queries,
    "reused_tokens": prefix_hits,
    "evictions": preemptions,
    "process_cpu_seconds": engine_cpu_seconds,
}


@counting.counted_by
def _counts() -> counting.Counts:
    return {
        "tokens": counting.total(generation_tokens),
        "takeovers": counting.total(takeovers),
        **counting.buckets("first_token", first_token),
    }


class AttemptTimes:
    """Measures one attempt at a session. Created at the claim, and notified of each commit by the writer."""

    def __init__(self, session: ChatSession) -> None:
        self._opened_at = session.created_at.timestamp()
        self._first_token_at = session.first_token_at.timestamp() if session.first_token_at else None
        self._last_commit: float | None = None
        self._spans = AttemptSpans(session, now=time.time())
        if session.attempt > 1:
            takeovers.inc()
        elif session.started_at is not None:
            # The clocks of two machines may differ.
            queue_time.observe(max(0.0, (session.started_at - session.created_at).total_seconds()))

    def committed(self, item: Append) -> None:
        """Called after each commit of the session, with the writer's lock held, so it must be fast."""
        if count := sum(len(piece.token_ids) for piece in item.pieces):
            self._count_tokens(count)
        if item.closing is not None:
            self._count_end(item.closing)
        self._spans.committed(item, now=time.time())

    def ended(self, outcome: str) -> None:
        """Called when the attempt is over but the session has not ended."""
        self._spans.ended(now=time.time(), outcome=outcome)

    def _count_tokens(self, count: int) -> None:
        generation_tokens.inc(count)
        now = time.monotonic()
        if self._first_token_at is None:
            self._first_token_at = time.time()
            first_token.observe(max(0.0, self._first_token_at - self._opened_at))
        elif self._last_commit is not None:
            inter_token.observe((now - self._last_commit) / count)
        self._last_commit = now

    def _count_end(self, closing: Closing) -> None:
        now = timezone.now().timestamp()
        count_end(closing.state, closing.reason)
        whole.observe(max(0.0, now - self._opened_at))
        prompt_tokens.inc(closing.prompt_tokens)
        is_completed = closing.state == ChatSession.State.COMPLETED
        if is_completed and self._first_token_at is not None and closing.completion_tokens > 1:
            per_output_token.observe(max(0.0, now - self._first_token_at) / (closing.completion_tokens - 1))


class EngineReader:
    """Adds the counts of a worker's engine to the metrics. A new engine's counts start at 0."""

    def __init__(self) -> None:
        self._before: dict[str, float] = {}

    def read(self, stats: Any) -> None:
        """Add the increase since the last call. ``stats`` is the result of the engine's ``stats``, of either kind."""
        now = dataclasses.asdict(stats)
        batch_rows.set(now["running"])
        batch_rows_max.set(now.get("max_batch_size", settings.MAX_BATCH_SIZE))
        if "max_running_tokens" not in now:
            return  # an upstream's batch is not visible here
        kv_cache_usage.set(now["running_tokens"] / now["max_running_tokens"])
        engine_bytes.set(now["process_bytes"])
        for name, counter in ENGINE_COUNTS.items():
            before = self._before.get(name, 0)
            counter.inc(now[name] - before if now[name] >= before else now[name])
            self._before[name] = now[name]
