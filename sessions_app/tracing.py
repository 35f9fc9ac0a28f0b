"""Traces for OpenTelemetry, where ``TRACES_ENDPOINT`` is set: one trace per session, across processes.

The ids of a trace and of its root span are derived from the session's id, so web and workers write into one trace
without exchanging ids, and a takeover continues the trace. The ids do not reveal that of the session. Spans hold no
text of a session.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils.crypto import salted_hmac

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

SERVICE = "sambung"
ROOT = "session"
_MAX_TRACES = 2**128

Attributes = Mapping[str, str | int | float | bool]


def is_traced(session_id: str) -> bool:
    """Whether spans of the session are kept: ``TRACES_SAMPLE`` of all sessions, the same ones in every process."""
    return bool(settings.TRACES_ENDPOINT) and _trace_id(session_id) < settings.TRACES_SAMPLE * _MAX_TRACES


def record(
    session_id: str,
    name: str,
    *,
    start: float,
    end: float,
    attributes: Attributes | None = None,
    events: Iterable[tuple[float, Attributes]] = (),
) -> None:
    """A span of the session that has ended, with its ``events``. Times are in seconds since 1970.

    Does nothing for a session that is not traced.
    """
    if not is_traced(session_id):
        return
    span = _tracer().start_span(
        name, context=_within(session_id), start_time=_nanoseconds(start), attributes=dict(attributes or {})
    )
    for at, about in events:
        span.add_event("commit", dict(about), timestamp=_nanoseconds(at))
    span.end(_nanoseconds(max(start, end)))


def record_session(session_id: str, *, start: float, end: float, attributes: Attributes) -> None:
    """The root of the session's trace, once it has ended."""
    if not is_traced(session_id):
        return
    from opentelemetry.context import Context

    with _ids().given(trace=_trace_id(session_id), span=_span_id(session_id)):
        root = _tracer().start_span(
            ROOT, context=Context(), start_time=_nanoseconds(start), attributes=dict(attributes)
        )
    root.end(_nanoseconds(max(start, end)))


@functools.cache
def provider() -> TracerProvider:
    """The provider of this process. It sends in its own thread, and sends the rest when the process ends."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    found = TracerProvider(id_generator=_ids(), resource=Resource.create({"service.name": SERVICE}))
    found.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.TRACES_ENDPOINT)))
    return found


def _tracer() -> Tracer:
    return provider().get_tracer(SERVICE)


def _within(session_id: str):  # type: ignore[no-untyped-def]  # (a type of an optional package)
    """The context of the session's root span, which another process may write."""
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    return set_span_in_context(
        NonRecordingSpan(
            SpanContext(
                _trace_id(session_id),
                _span_id(session_id),
                is_remote=True,
                trace_flags=TraceFlags(TraceFlags.SAMPLED),
            )
        )
    )


def _trace_id(session_id: str) -> int:
    return int.from_bytes(salted_hmac("sessions_app.trace", session_id, algorithm="sha256").digest()[:16])


def _span_id(session_id: str) -> int:
    return int.from_bytes(salted_hmac("sessions_app.span", session_id, algorithm="sha256").digest()[:8])


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


@functools.cache
def _ids():  # type: ignore[no-untyped-def]  # (a class of an optional package's)
    """Generates random ids, or the given ones inside a block."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        def __init__(self) -> None:
            self._given = threading.local()

        @contextmanager
        def given(self, *, trace: int, span: int) -> Iterator[None]:
            self._given.ids = (trace, span)
            try:
                yield
            finally:
                self._given.ids = None

        def generate_trace_id(self) -> int:
            ids = getattr(self._given, "ids", None)
            return ids[0] if ids else super().generate_trace_id()

        def generate_span_id(self) -> int:
            ids = getattr(self._given, "ids", None)
            return ids[1] if ids else super().generate_span_id()

    return Ids()
