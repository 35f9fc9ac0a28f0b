"""What is counted of sessions, each figure moved by what it counts, with real rows and a real writer."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone
from prometheus_client.exposition import generate_latest

from inference import fleet
from inference.engine.stats import EngineStats
from inference.engine.types import Delta
from inference.metrics import AttemptTimes, EngineReader
from inference.models import ModelWorker
from inference.worker import chunk_writer
from inference.worker.attempt import Attempt
from inference.worker.chunk_writer import ChunkWriter
from ocr.extraction import complete_extraction
from ocr.metrics import count_reading
from ocr.reading.problems import Problem
from sessions_app import hub, wakeups
from sessions_app.db import in_db
from sessions_app.errors import ApiError
from sessions_app.models import ChatSession
from sessions_app.store import appending, transitions
from sessions_app.store.appending import Closing
from sessions_app.wakeups import InProcessTransport
from tests.db.ktp_cards import read_extraction
from tests.db.session_states import claimed, completed, expire_lease, open_session, png, say, text
from tests.scraped import Scraped, moved, parsed, scrape

pytestmark = pytest.mark.django_db(transaction=True)

DEADLINE_SECONDS = 20.0


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChunkWriter]:
    monkeypatch.setattr(chunk_writer, "RETRY_SECONDS", 0.01)
    writer = ChunkWriter()
    writer.start()
    yield writer
    writer.stop(DEADLINE_SECONDS)


def begin(writer: ChunkWriter, session: ChatSession) -> Attempt:
    return writer.open(session.pk, session.attempt, session.next_index, AttemptTimes(session))


def commit(writer: ChunkWriter, attempt: Attempt, *token_ids: int) -> None:
    attempt.add(Delta(token_ids, "a" * len(token_ids)))
    assert writer.flush(attempt, DEADLINE_SECONDS)


def end(attempt: Attempt, **closing: Any) -> None:
    attempt.close(Closing(**closing))
    assert attempt.done.wait(DEADLINE_SECONDS)


def facts() -> Scraped:
    class Told:
        def collect(self) -> Any:
            return asyncio.run(fleet.read_facts())

    return parsed(generate_latest(Told()).decode())


def test_a_session_is_measured_from_its_opening_to_its_end(writer: ChunkWriter) -> None:
    with moved() as change:
        attempt = begin(writer, claimed(open_session()))
        commit(writer, attempt, 1)
        commit(writer, attempt, 2, 3)
        end(attempt, reason="length", prompt_tokens=7, completion_tokens=3)
        writer.forget(attempt)
    assert change["sambung:request_queue_time_seconds_count"] == 1
    assert change["sambung:time_to_first_token_seconds_count"] == 1
    assert change["sambung:inter_token_latency_seconds_count"] == 1
    assert change["sambung:request_time_per_output_token_seconds_count"] == 1
    assert change["sambung:e2e_request_latency_seconds_count"] == 1
    assert change["sambung:prompt_tokens_total"] == 7
    assert change["sambung:generation_tokens_total"] == 3
    assert change['sambung:request_success_total{finished_reason="length"}'] == 1
    assert change["sambung:commit_seconds_count"] == 3
    assert change["sambung:takeovers_total"] == change["sambung:fenced_appends_total"] == 0


def test_times_are_those_of_the_session(writer: ChunkWriter) -> None:
    """Of the caller's clock: what it waited in the queue counts until the first token."""
    session = claimed(open_session())
    session.created_at -= datetime.timedelta(seconds=100)
    with moved() as change:
        attempt = begin(writer, session)
        commit(writer, attempt, 1)
        end(attempt, completion_tokens=1)
        writer.forget(attempt)
    assert 100 <= change["sambung:request_queue_time_seconds_sum"] < 110
    assert 100 <= change["sambung:time_to_first_token_seconds_sum"] < 110
    assert 100 <= change["sambung:e2e_request_latency_seconds_sum"] < 110


def test_a_takeover_has_no_first_token_of_its_own_and_counts_its_own_tokens_only(writer: ChunkWriter) -> None:
    session = claimed(open_session())
    first = begin(writer, session)
    commit(writer, first, 1, 2)
    expire_lease(session)
    with moved() as change:
        again = begin(writer, claimed(session))
        commit(writer, again, 3)
        end(again, completion_tokens=3)
        writer.forget(again)
    assert change["sambung:takeovers_total"] == 1
    assert change["sambung:generation_tokens_total"] == 1
    assert change["sambung:time_to_first_token_seconds_count"] == 0
    assert change["sambung:request_queue_time_seconds_count"] == 0
    assert change["sambung:e2e_request_latency_seconds_count"] == 1


def test_an_append_of_a_session_that_another_has_taken_is_counted_as_fenced(writer: ChunkWriter) -> None:
    session = claimed(open_session())
    attempt = begin(writer, session)
    expire_lease(session)
    claimed(session)
    with moved() as change:
        attempt.add(Delta((1,), "late"))
        assert attempt.done.wait(DEADLINE_SECONDS)
    assert attempt.is_fenced
    writer.forget(attempt)
    assert change["sambung:fenced_appends_total"] == 1
    assert change["sambung:generation_tokens_total"] == 0


def test_a_commit_that_the_database_refuses_is_counted_and_its_tokens_once(
    writer: ChunkWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, failures = appending.append, [OperationalError("away")]

    def unsteady(items: Any) -> set[str]:
        if failures:
            raise failures.pop()
        return append(items)

    attempt = begin(writer, claimed(open_session()))
    monkeypatch.setattr(appending, "append", unsteady)
    with moved() as change:
        commit(writer, attempt, 1)
    end(attempt)
    writer.forget(attempt)
    assert change["sambung:commit_failures_total"] == 1
    assert change["sambung:generation_tokens_total"] == 1


@pytest.mark.parametrize(
    ("closing", "reason"),
    [
        ({"reason": "stop"}, "stop"),
        ({"reason": "content_filter"}, "content_filter"),
        ({"reason": "cancelled"}, "abort"),
        ({"error": {"message": "no"}}, "error"),
        ({"reason": "unheard_of"}, "stop"),
    ],
)
def test_every_end_is_under_one_of_five_reasons(writer: ChunkWriter, closing: dict[str, Any], reason: str) -> None:
    attempt = begin(writer, claimed(open_session()))
    with moved() as change:
        end(attempt, **closing)
        writer.forget(attempt)
    assert change.sum("sambung:request_success_total") == 1
    assert change[f'sambung:request_success_total{{finished_reason="{reason}"}}'] == 1


def test_a_session_that_ends_without_a_worker_is_counted_too() -> None:
    with moved() as change:
        transitions.request_cancel(open_session().pk)
        transitions.fail(open_session().pk, ApiError("no"))
    assert change['sambung:request_success_total{finished_reason="abort"}'] == 1
    assert change['sambung:request_success_total{finished_reason="error"}'] == 1


def test_what_is_opened_is_counted_once_with_its_media() -> None:
    with moved() as change:
        for _ in range(2):
            open_session(session_id="the-same", media=[png(), png()], origin="ocr")
    assert change['sambung:sessions_opened_total{origin="ocr"}'] == 1
    assert change['sambung:media_total{kind="image"}'] == 2


def test_a_listener_counts_while_it_listens_and_a_gap_when_it_reads_one(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = InProcessTransport()
    monkeypatch.setattr(wakeups, "transport", lambda: transport)
    monkeypatch.setattr("django.conf.settings.HUB_POLL_SECONDS", 0.02)
    session = claimed(open_session())

    async def listen() -> list[float]:
        following = hub.Hub().follow(session, -1, idle_seconds=1000)
        seen = []
        async for batch in following:
            seen.append(scrape()["sambung:listeners"])
            if batch[-1].index == 0:
                # No wake-up tells of it: the poll finds it, and the listener reads it.
                with monkeypatch.context() as deaf:
                    deaf.setattr(wakeups, "publish", lambda told: None)
                    await in_db(say, session, text("a"), closing=Closing())
        return seen

    with moved() as change:
        counts = asyncio.run(asyncio.wait_for(listen(), DEADLINE_SECONDS))
    assert min(counts) >= 1
    assert change["sambung:listeners"] == 0
    assert change["sambung:hub_gaps_total"] >= 1


def stats(**counts: int) -> EngineStats:
    names = EngineStats.__dataclass_fields__
    known: dict[str, Any] = {"max_batch_size": 16, "max_running_tokens": 1000, "device": "cpu"}
    return EngineStats(**{**dict.fromkeys(names, 0), **known, **counts})


def test_the_engines_counts_are_carried_over_as_they_grow() -> None:
    reader = EngineReader()
    with moved() as change:
        reader.read(stats(running=3, running_tokens=250, decode_steps=5, prompt_tokens=100, reused_tokens=32))
        reader.read(
            stats(
                running=2,
                running_tokens=500,
                decode_steps=9,
                prompt_tokens=150,
                reused_tokens=64,
                evictions=1,
                process_bytes=2**30,
                process_cpu_seconds=7,
            )
        )
    assert change["sambung:decode_steps_total"] == 9
    assert change["sambung:prefix_cache_queries_total"] == 150
    assert change["sambung:prefix_cache_hits_total"] == 64
    assert change["sambung:num_preemptions_total"] == 1
    assert change["sambung:engine_cpu_seconds_total"] == 7
    assert scrape()["sambung:engine_resident_bytes"] == 2**30
    assert scrape()["sambung:batch_rows"] == 2
    assert scrape()["sambung:batch_rows_max"] == 16
    assert scrape()["sambung:kv_cache_usage_perc"] == 0.5


def test_an_engine_that_begins_again_takes_nothing_from_what_was_counted() -> None:
    reader = EngineReader()
    reader.read(stats(decode_steps=5))
    with moved() as change:
        reader.read(stats(decode_steps=0))
        reader.read(stats(decode_steps=2))
    assert change["sambung:decode_steps_total"] == 2


def test_a_reading_is_counted_with_its_problems_and_once() -> None:
    with moved() as change:
        extraction = read_extraction()
        complete_extraction(extraction.pk)
    assert change.sum("sambung:ocr_readings_total") == 1
    assert change['sambung:ocr_problems_total{code="nik_unused_district"}'] == 1


def test_a_code_that_is_none_of_ours_is_no_label() -> None:
    with moved() as change:
        count_reading([Problem(None, "3171990101900001")])
    assert change['sambung:ocr_problems_total{code="other"}'] == 1
    assert not [sample for sample in change if "3171990101900001" in sample]


def test_the_queue_is_read_from_the_database() -> None:
    for _ in range(2):
        open_session()
    claimed(open_session())
    completed()
    ChatSession.objects.queued().update(enqueued_at=timezone.now() - datetime.timedelta(seconds=50))
    found = facts()
    assert found["sambung:database_up"] == 1
    assert found["sambung:num_requests_waiting"] == 2
    assert found["sambung:num_requests_running"] == 1
    assert 50 <= found["sambung:oldest_waiting_seconds"] < 80


def test_workers_are_counted_by_state_and_those_that_are_gone_are_not() -> None:
    State = ModelWorker.State
    silent = timezone.now() - datetime.timedelta(hours=1)
    columns_of: dict[str, dict[str, Any]] = {
        "a": {"state": State.READY},
        "b": {"state": State.READY, "drain": True},
        "c": {"state": State.LOADING, "drain": True},
        "d": {"state": State.FAILED},
        "e": {"state": State.STOPPED},
        "f": {"state": State.READY, "heartbeat_at": silent},
    }
    for name, columns in columns_of.items():
        ModelWorker.objects.create(name=name, model="tiny", **columns)
    found = facts()
    states = ("loading", "ready", "failed", "draining")
    assert [found[f'sambung:workers{{state="{state}"}}'] for state in states] == [1] * 4
