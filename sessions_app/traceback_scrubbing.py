"""Forget the values in a traceback, so that no report of an error contains what was being processed.

Error reporters, debug pages and debuggers read the local variables of a traceback's frames: texts of sessions, the
values of a card, bytes of its picture. The lines of code stay, and are what a traceback is read for.
"""

from __future__ import annotations

import contextlib
import logging
import traceback


def forget_values(error: BaseException) -> None:
    """Clear the frames that the error has left, and those of the errors that led to it. Frames that run are kept."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        for frame, _line in traceback.walk_tb(one.__traceback__):
            # Django's handler waits in its frame for the response: to clear that would end its coroutine.
            if not frame.f_globals.get("__name__", "").startswith("django.core.handlers."):
                with contextlib.suppress(RuntimeError):  # it still runs
                    frame.clear()
        waiting += [other for other in (one.__context__, one.__cause__) if other is not None]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions


class ForgettingFilter(logging.Filter):
    """For the log's handler: it handles a record before an error reporter sees it."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None:
            forget_values(record.exc_info[1])
        return True
