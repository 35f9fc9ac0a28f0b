"""The course of a session in the order of time: its row, its history and its pauses in one list."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from django.contrib.admin.utils import quote
from django.urls import reverse
from django.utils.translation import gettext as _

from sessions_app.admin.formatting import NONE, count, duration, moment
from sessions_app.admin.pace import Pause
from sessions_app.models import ChatSession, SessionEvent

#: maximum number of a session's events that are read; it has more only where a client has resumed again and again
MAX_EVENTS = 300
#: this many consecutive resumes are listed one by one; more are shown as one line
SINGLE_RESUMES = 3

Kind = SessionEvent.Kind


@dataclass(frozen=True, slots=True)
class Moment:
    """One line. ``tone`` is its colour: "" or one of good, warn and bad."""

    at: datetime.datetime
    text: str
    tone: str = ""
    #: address of the other session's page, where the line names one
    url: str = ""
    kind: str = ""
    #: time since the session was created, as text
    after: str = ""

    @property
    def time(self) -> str:
        return moment(self.at)


def timeline_of(session: ChatSession, pauses: Sequence[Pause]) -> list[Moment]:
    """The session's lines, oldest first. One query."""
    events = list(session.events.all()[:MAX_EVENTS])
    moments = [*_of_row(session, events), *map(_of_event, events), *map(_of_pause, pauses)]
    in_order = _without_crowds(sorted(moments, key=lambda one: one.at))
    return [_since(session.created_at, one) for one in in_order]


def _of_row(session: ChatSession, events: Iterable[SessionEvent]) -> Iterator[Moment]:
    yield Moment(session.created_at, _("Queued"))
    if session.started_at is not None and not any(event.kind == Kind.CLAIMED for event in events):
        # The session is older than the table of histories.
        yield Moment(session.started_at, _("Claimed for the first time"))
    if session.first_token_at is not None:
        yield Moment(session.first_token_at, _("First token"), "good")
    if session.cancel_requested_at is not None:
        yield Moment(session.cancel_requested_at, _("Cancel requested"), "warn")
    if session.finished_at is not None:
        yield _end_of(session, session.finished_at)
    if session.expired_at is not None:
        yield Moment(session.expired_at, _("Request, media and chunks removed"))


def _end_of(session: ChatSession, at: datetime.datetime) -> Moment:
    if session.state == ChatSession.State.FAILED:
        code = session.error.get("code") if isinstance(session.error, dict) else None
        return Moment(at, _("Failed: %(code)s") % {"code": code or NONE}, "bad")
    if session.state == ChatSession.State.CANCELLED:
        return Moment(at, _("Cancelled"), "warn")
    return Moment(at, _("Completed: %(reason)s") % {"reason": session.finish_reason or NONE}, "good")


def _of_event(event: SessionEvent) -> Moment:
    by = {"worker": event.worker or NONE, "attempt": event.attempt}
    other = event.other_session
    url = reverse("admin:sessions_app_chatsession_change", args=[quote(other)]) if other else ""
    match event.kind:
        case Kind.CLAIMED if (event.attempt or 0) > 1:
            return Moment(event.at, _("Taken over by %(worker)s, attempt %(attempt)s") % by, "warn")
        case Kind.CLAIMED:
            return Moment(event.at, _("Claimed by %(worker)s") % by)
        case Kind.RELEASED:
            return Moment(event.at, _("Released by %(worker)s and queued again") % by, "warn")
        case Kind.LEASE_EXPIRED:
            return Moment(event.at, _("The lease of %(worker)s expired; queued again") % by, "bad")
        case Kind.RESUMED:
            text = _("A client resumed the stream after chunk %(index)s") % {"index": count(event.index)}
            return Moment(event.at, text, kind=event.kind)
        case Kind.REQUEUED_AS:
            return Moment(event.at, _("Sent again as %(session)s") % {"session": other}, url=url)
        case Kind.REQUEUED_FROM:
            return Moment(event.at, _("Has the request of %(session)s") % {"session": other}, url=url)
    return Moment(event.at, event.kind)


def _of_pause(pause: Pause) -> Moment:
    return Moment(pause.at, _("No token for %(time)s") % {"time": duration(pause.length)}, "warn")


def _without_crowds(moments: Iterable[Moment]) -> Iterator[Moment]:
    """Of many consecutive resumes the first, with their number."""
    for kind, group in itertools.groupby(moments, key=lambda one: one.kind):
        lines = list(group)
        if kind != Kind.RESUMED or len(lines) <= SINGLE_RESUMES:
            yield from lines
            continue
        times = {"count": count(len(lines)), "time": moment(lines[-1].at)}
        yield Moment(lines[0].at, _("Clients resumed the stream %(count)s times, last at %(time)s") % times)


def _since(start: datetime.datetime, one: Moment) -> Moment:
    after = duration(one.at - start)
    return Moment(one.at, one.text, one.tone, one.url, one.kind, "" if one.at == start else f"+{after}")
