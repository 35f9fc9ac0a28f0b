"""Erase sessions: the rows go with everything that belongs to them, whether they have ended or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from django.db import transaction

from sessions_app.models import ChatSession
from sessions_app.store.appending import Closing, close_unheld


def erase_sessions(session_ids: Iterable[str]) -> Counter[str]:
    """Erase these sessions in one transaction. Returns how many rows of each model went, by the model's label.

    One that still waits or runs is cancelled first: its listeners get their last chunk, and its worker is fenced, so
    that it writes nothing more. Ids that no session has are ignored. The caller bounds their number.
    """
    with transaction.atomic():
        # The writers' order (``appending.append``). Whoever inserts a row of one of these waits for its lock.
        rows = ChatSession.objects.select_for_update().filter(pk__in=list(session_ids)).order_by("pk")
        sessions = list(rows.only("state", "attempt", "next_index", "completion_tokens", "created_at"))
        for session in sessions:
            if not session.is_finished:
                close_unheld(session, Closing(reason="cancelled", completion_tokens=session.completion_tokens or 0))
        # Its chunks, media, presence and events go with it: they cascade.
        found = ChatSession.objects.filter(pk__in=[session.pk for session in sessions])
        return +Counter(found.only("pk").delete()[1])
