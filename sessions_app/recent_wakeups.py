"""Which sessions have had wake-ups lately, so that the hub need not read a session that was created a moment ago."""

from __future__ import annotations

import datetime
from collections import OrderedDict
from collections.abc import Iterable

from django.utils import timezone

from sessions_app.models import ChatSession

#: maximum number of remembered sessions; the one with the oldest wake-up is removed first
REMEMBERED_SESSIONS = 1000


class RecentWakeups:
    """The recent wake-ups of one hub. It is complete since the hub subscribed, as far as the hub knows."""

    def __init__(self) -> None:
        #: session → its last wake-up, the oldest first
        self._last: OrderedDict[str, datetime.datetime] = OrderedDict()
        #: every session with a wake-up since then is in ``_last``; None while the hub is not subscribed
        self._complete_since: datetime.datetime | None = None

    def subscribed(self) -> None:
        """The hub has subscribed, for the first time or after a loss of the connection."""
        self._complete_since = timezone.now()

    def unsubscribed(self) -> None:
        self._complete_since = None
        self._last.clear()

    def note(self, session_ids: Iterable[str]) -> None:
        """These sessions have a wake-up now."""
        now = timezone.now()
        for session_id in session_ids:
            self._last[session_id] = now
            self._last.move_to_end(session_id)
        while len(self._last) > REMEMBERED_SESSIONS:
            _, forgotten = self._last.popitem(last=False)
            if self._complete_since is not None:
                self._complete_since = max(self._complete_since, forgotten)

    def has_only_first_chunk(self, session: ChatSession) -> bool:
        """Whether the log of the session holds chunk 0 alone, by its row and by the wake-ups since its creation.

        A wake-up may be lost, and the row may be old. The answer is wrong then until the next poll of the hub.
        """
        return (
            session.next_index == 1
            and self._complete_since is not None
            and self._complete_since < session.created_at
            and session.pk not in self._last
        )
