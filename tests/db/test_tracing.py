"""The trace of a session: who worked on it and when, in one trace across processes and attempts."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pytest_django import Settings

from inference.metrics import AttemptTimes
from sessions_app import tracing
from sessions_app.errors import WorkerLost
from sessions_app.models import ChatSession
from sessions_app.store import transitions
from sessions_app.store.appending import Append, Closing, Piece
from tests.db.session_states import claimed, expire_lease, open_session

pytestmark = pytest.mark.django_db

NOWHERE = "http://127.0.0.1:9/v1/traces"


@pytest.fixture
def exported(settings: Settings) -> Iterator[InMemorySpanExporter]:
    """What is recorded. Nothing is sent."""
    settings.TRACES_ENDPOINT = NOWHERE
    tracing.provider.cache_clear()
    provider, exporter = tracing.provider(), InMemorySpanExporter()
    # In place of the one that sends.
    provider._active_span_processor.shutdown()
    provider._active_span_processor._span_processors = ()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter
    tracing.provider.cache_clear()


def append(session: ChatSession, *, tokens: int = 1, closing: Closing | None = None) -> Append:
    piece = Piece({"type": "text", "text": "rahasia"}, list(range(tokens)))
    return Append(session.pk, session.attempt, session.next_index, (piece,) if tokens else (), closing)


def names(exporter: InMemorySpanExporter) -> list[str]:
    return [span.name for span in exporter.get_finished_spans()]


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_session_is_one_trace_from_the_queue_to_its_end(exported: InMemorySpanExporter) -> None:
    session = claimed(open_session())
    times = AttemptTimes(session)
    times.committed(append(session))
    times.committed(append(session, tokens=3, closing=Closing(reason="stop", completion_tokens=4)))
    spans = by_name(exported)
    assert list(spans) == ["queue", "prefill", "decode", "session"]
    root = spans["session"]
    assert root.parent is None
    assert len({span.context.trace_id for span in spans.values()}) == 1
    assert {span.parent.span_id for span in spans.values() if span.parent} == {root.context.span_id}
    assert root.attributes and root.attributes["finish_reason"] == "stop"
    decode = spans["decode"]
    assert decode.attributes and (decode.attributes["tokens"], decode.attributes["outcome"]) == (4, "completed")
    assert [event.attributes["tokens"] for event in decode.events if event.attributes] == [1, 3]


def test_a_takeover_goes_on_in_the_same_trace(exported: InMemorySpanExporter) -> None:
    session = claimed(open_session())
    first = AttemptTimes(session)
    first.committed(append(session))
    first.ended("fenced")
    first.ended("released")  # once is enough
    expire_lease(session)
    again = claimed(session)
    second = AttemptTimes(again)
    second.committed(append(again, closing=Closing(reason="stop")))
    assert names(exported) == ["queue", "prefill", "decode", "prefill", "decode", "session"]
    spans = exported.get_finished_spans()
    assert len({span.context.trace_id for span in spans}) == 1
    assert [span.attributes["attempt"] for span in spans if span.attributes and span.name == "decode"] == [1, 2]


def test_an_attempt_without_a_token_ends_in_its_prefill(exported: InMemorySpanExporter) -> None:
    session = claimed(open_session())
    AttemptTimes(session).ended("released")
    assert names(exported) == ["queue", "prefill"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("end", ["cancelled", "failed"])
def test_a_session_that_ends_without_a_worker_has_its_root_span(exported: InMemorySpanExporter, end: str) -> None:
    session = open_session()
    if end == "cancelled":
        transitions.request_cancel(session.pk)
    else:
        transitions.fail(session.pk, WorkerLost(1))
    [root] = exported.get_finished_spans()
    assert (root.name, root.parent) == ("session", None)
    assert root.attributes and (root.attributes["state"], root.attributes["attempts"]) == (end, 0)


def test_a_trace_tells_neither_the_sessions_id_nor_a_word_of_it(exported: InMemorySpanExporter) -> None:
    session = claimed(open_session())
    AttemptTimes(session).committed(append(session, closing=Closing(reason="stop")))
    for span in exported.get_finished_spans():
        written = span.to_json()
        assert session.pk not in written
        assert "rahasia" not in written


def test_a_part_of_the_sessions_is_traced_the_same_everywhere(settings: Settings) -> None:
    settings.TRACES_ENDPOINT = NOWHERE
    settings.TRACES_SAMPLE = 0.25
    sessions = [f"sess_{number}" for number in range(400)]
    traced = [tracing.is_traced(session) for session in sessions]
    assert 60 < sum(traced) < 140
    assert traced == [tracing.is_traced(session) for session in sessions]


def test_without_an_endpoint_nothing_is_recorded(settings: Settings) -> None:
    settings.TRACES_ENDPOINT = ""
    tracing.provider.cache_clear()
    tracing.record("sess_a", "queue", start=time.time(), end=time.time())
    tracing.record_session("sess_a", start=0, end=1, attributes={})
    assert tracing.provider.cache_info().currsize == 0
