"""What the list of sessions reads: a page of rows, what is shown with them, and the orders and filters of columns.

The list of a hundred thousand sessions must open at once. So it reads no request, and what is not in the row is read
for the sessions of one page together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import DateTimeField, ExpressionWrapper, F, FloatField, Func, IntegerField, QuerySet
from django.db.models.functions import Cast, Coalesce, Now, NullIf
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sessions_app import privacy, queue_reasons, token_rates, turns
from sessions_app.admin.formatting import NONE, count
from sessions_app.models import ChatSession
from sessions_app.states import CANCELLING, SHOWN_STATES
from sessions_app.storable import storable_text
from sessions_app.token_limits import TOKEN_LIMIT, token_limit

#: number of newest sessions whose values the filters offer
RECENT_SESSIONS = 5000
ERROR_CHARS = 160


@dataclasses.dataclass(slots=True)
class RowContext:
    """What the list shows of a session that its row does not have."""

    #: ``max_tokens`` of the request
    max_tokens: int | None = None
    #: code and message of a failed session's error
    error_code: str = ""
    error_message: str = ""
    #: speed of a running session that has generated something in the last seconds
    tokens_per_second: float | None = None
    #: place of a queued session in the queue, from 1
    place: int | None = None
    #: what keeps all queued sessions waiting
    waits_for: str = ""
    #: why it is in its state, in a few lines
    why: list[str] = dataclasses.field(default_factory=list)


def read_row_context(sessions: Sequence[ChatSession]) -> dict[str, RowContext]:
    """Read what the rows lack, by session id, in at most five queries for any number of sessions."""
    context = {session.pk: RowContext() for session in sessions}
    rows = ChatSession.objects.filter(pk__in=context).order_by()
    # The error as a whole: SQLite cannot take a text with half a character out of it.
    for pk, error, *limit in rows.values_list("pk", "error", *TOKEN_LIMIT):
        context[pk].max_tokens = token_limit(*limit)
        context[pk].error_code, context[pk].error_message = (_member(error, name) for name in ("code", "message"))
    if running := [session.pk for session in sessions if session.state == ChatSession.State.RUNNING]:
        for pk, rate in token_rates.tokens_per_second(running).items():
            context[pk].tokens_per_second = rate
    if queued := [session.pk for session in sessions if session.state == ChatSession.State.QUEUED]:
        places = {pk: place for place, pk in enumerate(turns.in_order(), 1)}
        reason = queue_reasons.reason()
        for pk in queued:
            context[pk].place, context[pk].waits_for = places.get(pk), reason
    return context


def _member(error: Any, name: str) -> str:
    """A text of a stored error; empty if there is none."""
    value = error.get(name) if isinstance(error, dict) else None
    return storable_text(value[:ERROR_CHARS]) if isinstance(value, str) else ""


def _explain(session: ChatSession, context: RowContext, user: Any) -> Iterator[str]:
    match session.state:
        case ChatSession.State.QUEUED:
            yield context.waits_for
            if context.place:
                yield _("Place %(place)s in the queue.") % {"place": count(context.place)}
        case ChatSession.State.RUNNING:
            if session.lease_expires_at is not None and session.lease_expires_at < timezone.now():
                yield _("Its worker is silent.")
        case ChatSession.State.FAILED:
            yield context.error_code
            # The message may quote the request.
            if privacy.may_read(user, session):
                yield context.error_message
    if session.attempt > 1:
        yield _("Attempt %(number)d") % {"number": session.attempt}


def tokens_of(session: ChatSession, context: RowContext) -> str:
    """The tokens generated so far, and how many the session may generate."""
    said = session.completion_tokens
    if said is None and session.is_finished:
        return NONE
    if context.max_tokens is None:
        return count(said or 0)
    return _("%(tokens)s of %(most)s") % {"tokens": count(said or 0), "most": count(context.max_tokens)}


def row_context_of(session: ChatSession) -> RowContext:
    """What ``SessionChangeList`` has read for the row of this session."""
    context: RowContext = vars(session)["context"]
    return context


class SessionChangeList(ChangeList):
    """The list reads no request: one may be megabytes of text."""

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        rows = super().get_queryset(request, *args, **kwargs)
        return rows.defer("request", "request_digest", "fingerprint", "error")

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        # Read here: the page goes through the same rows again.
        sessions: list[ChatSession] = list(self.result_list)
        self.result_list = sessions
        context = read_row_context(sessions)
        for session in sessions:
            vars(session)["context"] = context[session.pk]
            context[session.pk].why = [line for line in _explain(session, context[session.pk], request.user) if line]


class UnknownLast(ExpressionWrapper):
    """A column that is sorted by this, in either direction with the rows at the end that have no value."""

    def asc(self, **kwargs: Any) -> Any:
        return super().asc(nulls_last=True)

    def desc(self, **kwargs: Any) -> Any:
        return super().desc(nulls_last=True)


class SecondsBetween(Func):
    """Seconds from the first time to the second. Django's own difference calls Python for every row on SQLite."""

    arity = 2
    output_field = FloatField()

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "EXTRACT(EPOCH FROM %(expressions)s)::float"
        return self._later_first().as_sql(compiler, connection, template=template, arg_joiner=" - ")

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "(julianday(%(expressions)s)) * 86400.0"
        return self._later_first().as_sql(compiler, connection, template=template, arg_joiner=") - julianday(")

    def _later_first(self) -> Func:
        reversed_ = self.copy()
        reversed_.set_source_expressions(self.get_source_expressions()[::-1])
        return reversed_


BY_TOKENS = UnknownLast(F("completion_tokens"), output_field=IntegerField())
BY_FIRST_TOKEN = UnknownLast(SecondsBetween("created_at", "first_token_at"), output_field=FloatField())
#: for a running session this is the mean so far, but the column shows the speed of the last seconds
BY_SPEED = UnknownLast(
    Cast("completion_tokens", FloatField())
    / NullIf(SecondsBetween("first_token_at", Coalesce("finished_at", Now(), output_field=DateTimeField())), 0.0),
    output_field=FloatField(),
)


class StateFilter(admin.SimpleListFilter):
    """The states; running sessions with a cancel request are a state of their own."""

    title = gettext_lazy("state")
    parameter_name = "state__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [*SHOWN_STATES.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        if self.value() == CANCELLING:
            return queryset.filter(state=ChatSession.State.RUNNING, cancel_requested_at__isnull=False)
        return queryset.filter(state=self.value()) if self.value() else None


class RecentValuesFilter(admin.AllValuesFieldListFilter):
    """Offers the values of the newest sessions: to look through all of them takes longer than the list itself."""

    def __init__(self, field: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(field, request, *args, **kwargs)
        newest = ChatSession.objects.order_by("-created_at").values_list(field.name, flat=True)
        offered = sorted({*newest[:RECENT_SESSIONS], *(self.lookup_val or ())})
        self.lookup_choices = offered  # type: ignore[assignment]
