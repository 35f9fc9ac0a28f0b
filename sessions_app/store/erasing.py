"""Erase sessions, ended or not, with all rows that belong to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from django.db import transaction

from sessions_app.models import ChatSession
from sessions_app.store.appending import Closing, close_unheld


def erase_sessions(session_ids: Iterable[str]) -> Counter[str]:
    """Erase these sessions in one transaction. Returns how many rows of each model were erased, by the model's label.

    A queued or running session is cancelled first: its listeners get their last chunk, and its worker is fenced, so
    that it can write nothing more. Unknown ids are ignored. The caller must limit the number of ids.
    """
    with transaction.atomic():
        # Locked in the same order as in ``appending.append``. Inserting a row of a locked session waits for the lock.
        rows = ChatSession.objects.select_for_update().filter(pk__in=list(session_ids)).order_by("pk")
        sessions = list(rows.only("state", "attempt", "next_index", "completion_tokens", "created_at"))
        for session in sessions:
            if not session.is_finished:
                close_unheld(session, Closing(reason="cancelled", completion_tokens=session.completion_tokens or 0))
        # Chunks, media, presence and events are deleted by cascade.
        found = ChatSession.objects.filter(pk__in=[session.pk for session in sessions])
        return +Counter(found.only("pk").delete()[1])
