"""What the detail page says about a session beside its transcript, in groups of label and value."""

from __future__ import annotations

import datetime
from typing import NamedTuple

from django.utils import timezone

from sessions_app.figures import NONE, count, duration, moment, rate
from sessions_app.models import ChatSession


class Fact(NamedTuple):
    label: str
    value: str


class FactGroup(NamedTuple):
    title: str
    facts: tuple[Fact, ...]


def facts_of(session: ChatSession) -> list[FactGroup]:
    now = timezone.now()
    return [
        FactGroup(
            "Request",
            (
                Fact("Model", session.model),
                Fact("Origin", session.origin),
                Fact("Request ID", session.request_id or NONE),
            ),
        ),
        FactGroup(
            "Run",
            (
                Fact("Worker", session.worker or NONE),
                Fact("Attempt", str(session.attempt)),
                Fact("Lease", _lease(session, now)),
                Fact("Sent to the workers", moment(session.enqueued_at)),
                Fact("Cancel asked for", moment(session.cancel_requested_at)),
            ),
        ),
        FactGroup(
            "Times",
            (
                Fact("Created", moment(session.created_at)),
                Fact("Waited for a worker", _between(session.created_at, session.started_at)),
                Fact("Time to first token", duration(session.time_to_first_token)),
                Fact("Finished", moment(session.finished_at)),
                Fact("Took" if session.is_finished else "So far", duration(age(session, now))),
            ),
        ),
        FactGroup(
            "Result",
            (
                Fact("Prompt tokens", count(session.prompt_tokens)),
                Fact("Completion tokens", count(session.completion_tokens)),
                Fact("Tokens per second", rate(session.tokens_per_second)),
                Fact("Finish reason", session.finish_reason or NONE),
                Fact("Chunks", count(session.next_index)),
            ),
        ),
    ]


def age(session: ChatSession, now: datetime.datetime) -> datetime.timedelta:
    """From its creation to its end, or to now."""
    return (session.finished_at or now) - session.created_at


def _between(start: datetime.datetime, end: datetime.datetime | None) -> str:
    return NONE if end is None else duration(end - start)


def _lease(session: ChatSession, now: datetime.datetime) -> str:
    if session.lease_expires_at is None:
        return NONE
    if session.lease_expires_at < now:
        return f"lapsed {duration(now - session.lease_expires_at)} ago"
    return f"for another {duration(session.lease_expires_at - now)}"
