"""The fields of a log line besides its request: the session that runs, its attempt, and its worker.

A whole session id is a key where no API keys are set, so lines have the short form of ``short_id`` only.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
from collections.abc import Iterator

from sessions_app.log_lines import short_id
from sessions_app.request_id import RequestIdFilter

_attempt: contextvars.ContextVar[tuple[str, int] | None] = contextvars.ContextVar("attempt", default=None)
_worker = ""


@contextlib.contextmanager
def attempt_scope(session_id: str, attempt: int) -> Iterator[None]:
    """Log lines written inside are about this attempt at the session."""
    token = _attempt.set((session_id, attempt))
    try:
        yield
    finally:
        _attempt.reset(token)


def name_worker(name: str) -> None:
    """From now on, log lines of this process carry the worker's name."""
    global _worker
    _worker = name


class LogContextFilter(RequestIdFilter):
    """Adds ``request_id``, ``session``, ``attempt`` and ``worker`` to every record, and ``run``, the first two as text.

    These are all the fields that a line has. A line about a session outside of its ``attempt_scope`` gives the whole id
    in ``extra={"session": …}``; other keys of ``extra`` are not written.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        super().filter(record)
        session_id, attempt = _attempt.get() or (None, None)
        session_id, attempt = getattr(record, "session", session_id), getattr(record, "attempt", attempt)
        if session_id is not None and not session_id.endswith("…"):
            session_id = short_id(session_id)
        record.session, record.attempt, record.worker = session_id, attempt, _worker or None
        record.run = "".join(f" {part}" for part in (session_id, attempt and f"#{attempt}") if part)
        return True
