"""Server-sent events in the form that the strictest client accepts, and the cursor that names an event.

https://html.spec.whatwg.org/multipage/server-sent-events.html, without what the OpenAI Python SDK fails on: it
dispatches at a blank line whenever it has seen an id, so ``retry:`` must not be alone and a comment must end in ONE
newline.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from sessions_app.models import SESSION_ID_MAX_LENGTH

CONTENT_TYPE = "text/event-stream"
KEEPALIVE = b": ka\n"
RETRY_MILLISECONDS = 1000

# Clients and proxies take "." and ".." out of a path, so no id begins with a dot; nor with a dash, like an option.
SESSION_ID = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.\-]{{0,{SESSION_ID_MAX_LENGTH - 1}}}")
_CURSOR = re.compile(rf"({SESSION_ID.pattern}):(0|[1-9][0-9]{{0,9}})")
MAX_INDEX = 2**31 - 1  # what the column holds


class Cursor(NamedTuple):
    """The last event that a client has seen."""

    session_id: str
    index: int  # type: ignore[assignment]  # it hides tuple.index, which is not used here


class MalformedCursor(ValueError):
    """The cursor does not have the form ``session_id:index``."""


def parse_cursor(value: str) -> Cursor:
    """``session_id:index`` as a ``Cursor``; raises ``MalformedCursor``."""
    match = _CURSOR.fullmatch(value)
    if match is None or int(match[2]) > MAX_INDEX:
        raise MalformedCursor(value)
    return Cursor(match[1], int(match[2]))


def encode_event(data: str, *, session_id: str, index: int) -> bytes:
    """One event with its id. The session's first event also says how soon to reconnect after a break.

    ``data`` is JSON on one line, or ``[DONE]``: it holds no line break.
    """
    retry = f"retry: {RETRY_MILLISECONDS}\n" if index == 0 else ""
    return f"{retry}id: {session_id}:{index}\ndata: {data}\n\n".encode()
