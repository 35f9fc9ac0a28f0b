"""Follow a session from a terminal, by polling the database. It does not count as a listener."""

from __future__ import annotations

import time
from collections.abc import Iterator

from django.db import InterfaceError, OperationalError

from sessions_app.db import release_connections
from sessions_app.deltas import is_terminal
from sessions_app.models import ChatSession, Chunk
from sessions_app.store.listening import PAGE_CHUNKS
from sessions_app.transcript import ShownDelta, shown

#: seconds between two reads while there are no new chunks
POLL_SECONDS = 0.2
#: seconds between two tries while the database does not answer
RETRY_SECONDS = 1.0


class Expired(Exception):
    """The session's chunks were removed."""


def follow(session_id: str) -> Iterator[tuple[int, ShownDelta]]:
    """Index and delta of every chunk, from the first to the terminal one, as they are committed.

    Raises ``Expired``. Waits while the database does not answer.
    """
    index = -1
    while True:
        try:
            page = list(Chunk.objects.after(session_id, index).values_list("index", "delta")[:PAGE_CHUNKS])
            is_gone = not page and not ChatSession.objects.filter(pk=session_id, expired_at=None).exists()
        except (OperationalError, InterfaceError):
            release_connections()
            time.sleep(RETRY_SECONDS)
            continue
        if is_gone or (page and page[0][0] != index + 1):
            raise Expired(session_id)
        for index, stored in page:
            yield index, shown(stored)
            if is_terminal(stored):
                return
        if len(page) < PAGE_CHUNKS:
            time.sleep(POLL_SECONDS)
