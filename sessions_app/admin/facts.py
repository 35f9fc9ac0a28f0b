"""What the detail page says about a session in addition to its transcript, in groups of label and value."""

from __future__ import annotations

import datetime
from typing import NamedTuple

from django.utils import timezone
from django.utils.translation import gettext as _

from sessions_app.admin.formatting import NONE, count, duration, moment, rate
from sessions_app.admin.listing import RowContext, read_row_context, tokens_of
from sessions_app.models import ChatSession


class Fact(NamedTuple):
    label: str
    value: str


class FactGroup(NamedTuple):
    title: str
    facts: tuple[Fact, ...]


def facts_of(session: ChatSession) -> list[FactGroup]:
    """All facts, in the reader's language. Facts that are not in the row are read, in four queries at most."""
    now = timezone.now()
    context = read_row_context([session])[session.pk]
    return [
        FactGroup(
            _("Request"),
            (
                Fact(_("Model"), session.model),
                Fact(_("Origin"), session.origin),
                Fact(_("Request ID"), session.request_id or NONE),
                Fact(_("Caller"), session.caller or NONE),
            ),
        ),
        FactGroup(
            _("Run"),
            (
                *([Fact(_("Waits for"), _waits_for(context))] if session.state == ChatSession.State.QUEUED else []),
                Fact(_("Worker"), session.worker or NONE),
                Fact(_("Attempt"), str(session.attempt)),
                Fact(_("Lease"), _lease(session, now)),
                Fact(_("Sent to the workers"), moment(session.enqueued_at)),
                Fact(_("Cancel requested at"), moment(session.cancel_requested_at)),
            ),
        ),
        FactGroup(
            _("Times"),
            (
                Fact(_("Created"), moment(session.created_at)),
                Fact(_("Waited for a worker"), _between(session.created_at, session.started_at)),
                Fact(_("Time to first token"), duration(session.time_to_first_token)),
                Fact(_("Finished"), moment(session.finished_at)),
                Fact(_("Took") if session.is_finished else _("So far"), duration(age(session, now))),
            ),
        ),
        FactGroup(
            _("Result"),
            (
                Fact(_("Prompt tokens"), count(session.prompt_tokens)),
                Fact(_("Completion tokens"), tokens_of(session, context)),
                _speed(session, context),
                Fact(_("Finish reason"), session.finish_reason or NONE),
                Fact(_("Chunks"), count(session.next_index)),
            ),
        ),
    ]


def _waits_for(context: RowContext) -> str:
    place = _("Place %(place)s in the queue.") % {"place": count(context.place)} if context.place else ""
    return " ".join(text for text in (context.waits_for, place) if text) or NONE


def _speed(session: ChatSession, context: RowContext) -> Fact:
    if session.is_finished:
        return Fact(_("Tokens per second"), rate(session.tokens_per_second))
    return Fact(_("Tokens per second now"), rate(context.tokens_per_second))


def age(session: ChatSession, now: datetime.datetime) -> datetime.timedelta:
    """The time from the session's creation to its end, or to now."""
    return (session.finished_at or now) - session.created_at


def _between(start: datetime.datetime, end: datetime.datetime | None) -> str:
    return NONE if end is None else duration(end - start)


def _lease(session: ChatSession, now: datetime.datetime) -> str:
    if session.lease_expires_at is None:
        return NONE
    if session.lease_expires_at < now:
        return _("expired %(time)s ago") % {"time": duration(now - session.lease_expires_at)}
    return _("for another %(time)s") % {"time": duration(session.lease_expires_at - now)}
