"""Log lines that nothing from outside can forge, swell or make into a key.

Paths, headers, file names and what other servers say end up in messages. A line break in one would start a new
line, an escape sequence would reach the terminal of the person who reads the log, and a session id is a key to its
stream where no API keys are set. All records pass through here, including those of Django and of the libraries.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

MAX_MESSAGE_CHARS = 2_000
MAX_TRACEBACK_CHARS = 20_000
#: characters shown of a session's id, as in the admin's list: enough to search there, and at most half of the id
SHORT_ID_CHARS = 10
CONTINUED = "    "

#: ids that the server generates, anywhere in the text
_MADE_HERE = re.compile(r"\bsess_[A-Za-z0-9_-]{8,}")
#: ids of any form, in addresses that contain one
_IN_PATH = re.compile(r"(/v1/sessions/|/v1/cancel/|/ws/admin/sessions/|/chatsession/)([^\s/?]+)")
#: what PostgreSQL adds to an error: values of the row, which may be of a card
_VALUES = re.compile(r"^(DETAIL|CONTEXT): .*$", re.MULTILINE)


def short_id(session_id: str) -> str:
    """The beginning of a session's id, for log lines. The admin's search finds the session by it."""
    return f"{session_id[: min(SHORT_ID_CHARS, len(session_id) // 2)]}…"


def cut(text: str, longest: int) -> str:
    """``text``, or the beginning of it with a mark that there was more."""
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text)} characters)"


def printable(text: str) -> str:
    """Everything that does not show, or moves what is shown, as an escape: control characters, line separators,
    directional marks, halves of surrogate pairs.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def without_keys(text: str) -> str:
    """Shorten the session ids that can be recognized by their form or their place."""
    text = _MADE_HERE.sub(lambda found: short_id(found[0]), text)
    return _IN_PATH.sub(lambda found: found[1] + (found[2] if found[2].endswith("…") else short_id(found[2])), text)


class LineFormatter(logging.Formatter):
    """A message is one line. A traceback follows on separate lines, which begin with spaces."""

    def __init__(self, fmt: str | None = None) -> None:
        # A record that no filter has seen is of no run.
        super().__init__(fmt, defaults={"run": ""})

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(cut(without_keys(record.message), MAX_MESSAGE_CHARS))
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        # ``Formatter`` keeps the traceback in the record, for the next handler: that one is not ours to change.
        kept, record.exc_text = record.exc_text, None
        try:
            line, *more = super().format(record).split("\n")
        finally:
            record.exc_text = kept
        return "\n".join([line, *_continued(more)])

    def formatException(self, ei: object) -> str:
        text = _VALUES.sub(r"\1: (left out)", without_keys(super().formatException(ei)))  # type: ignore[arg-type]
        # The innermost frames and the error itself are at the end.
        return text if len(text) <= MAX_TRACEBACK_CHARS else f"…{text[-MAX_TRACEBACK_CHARS:]}"


def _continued(lines: Iterable[str]) -> Iterable[str]:
    return (CONTINUED + printable(line) for line in lines)


class RefusalFilter(logging.Filter):
    """A refused request is one line: Django would write a stack trace for each."""

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "status_code", 500) >= 500:
            return True
        # The access line says it already.
        if record.name == "django.request":
            return False
        record.exc_info = None
        return True
