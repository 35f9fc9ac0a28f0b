"""How fast sessions generate right now, from the chunks of the last seconds.

How many tokens a session has so far is in its row: every append counts them into ``completion_tokens``.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any

from django.db.models import F, Func, IntegerField, Min, Sum
from django.utils import timezone

from sessions_app.models import ChatSession

#: the current speed is the mean of this many seconds; a shorter window fluctuates too much
WINDOW_SECONDS = 5.0
#: maximum number of chunks read of each session; more than the writer commits in the window
MAX_CHUNKS = 256


class _ListLength(Func):
    function = "jsonb_array_length"
    output_field = IntegerField()

    def as_sqlite(self, *args: Any, **context: Any) -> Any:
        return self.as_sql(*args, **{**context, "function": "json_array_length"})


def tokens_per_second(session_ids: Iterable[str]) -> dict[str, float]:
    """The rate of each running session that has generated something in the last ``WINDOW_SECONDS``.

    One query. It reads at most ``MAX_CHUNKS`` chunks of a session, however long that is.
    """
    now = timezone.now()
    # It goes from the sessions to their last chunks by the unique index, which is the only one that chunks have.
    rows = (
        ChatSession.objects.running()
        .filter(
            pk__in=list(session_ids),
            chunks__index__gte=F("next_index") - MAX_CHUNKS,
            chunks__created_at__gt=now - datetime.timedelta(seconds=WINDOW_SECONDS),
        )
        .order_by()
        .values("pk")
        .annotate(tokens=Sum(_ListLength("chunks__token_ids")), since=Min("chunks__created_at"))
        .filter(tokens__gt=0)
    )
    return {row["pk"]: row["tokens"] / _seconds(now - row["since"]) for row in rows}


def _seconds(span: datetime.timedelta) -> float:
    """At least one: the first tokens of a session would be any rate."""
    return min(max(span.total_seconds(), 1.0), WINDOW_SECONDS)
