"""One client that follows one session's stream: its cursor, and the chunks that wake-ups have brought since."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import Iterable, Sequence

from sessions_app.wakeups import StreamChunk

#: maximum number of committed chunks buffered for a slow client; further ones are read from the database
BUFFER_CHUNKS = 500


class Listener:
    """The position of one client in a stream. All methods must be called on the hub's event loop."""

    __slots__ = ("buffer", "caller", "cursor", "gone", "last_index", "opened_at", "session_id", "woken")

    def __init__(self, session_id: str, opened_at: datetime.datetime, cursor: int, caller: str = "") -> None:
        self.session_id = session_id
        #: when the session was created: chunks of an earlier session with the same id are ignored
        self.opened_at = opened_at
        #: index of the last chunk handed out
        self.cursor = cursor
        self.caller = caller
        #: the highest index known to be committed
        self.last_index = cursor
        #: chunks from wake-ups, by index
        self.buffer: dict[int, StreamChunk] = {}
        self.woken = asyncio.Event()
        #: the session has expired or was deleted
        self.gone = False

    def notify(self, last_index: int, chunks: Iterable[StreamChunk] = ()) -> bool:
        """Buffer the chunks that this listener has not had. Returns whether the hub must wake it."""
        if last_index <= self.cursor:
            return False
        self.last_index = max(self.last_index, last_index)
        for chunk in chunks:
            if chunk.index > self.cursor and len(self.buffer) < BUFFER_CHUNKS:
                self.buffer[chunk.index] = chunk
        return True

    def take(self) -> list[StreamChunk]:
        """The buffered chunks that follow the cursor without a gap. They count as handed out."""
        taken: list[StreamChunk] = []
        while (chunk := self.buffer.pop(self.cursor + 1, None)) is not None:
            taken.append(chunk)
            self.cursor = chunk.index
        return taken

    def take_page(self, page: Sequence[StreamChunk]) -> None:
        """Count a page from the database as handed out."""
        if page:
            self.cursor = page[-1].index
            self.last_index = max(self.last_index, self.cursor)
        else:
            # A notification named chunks that are not in the table: they were removed. The poll will set ``gone``.
            self.last_index = self.cursor
        for index in [index for index in self.buffer if index <= self.cursor]:
            del self.buffer[index]

    @property
    def has_gap(self) -> bool:
        """Whether the next chunk is committed and not buffered."""
        return self.cursor < self.last_index and self.cursor + 1 not in self.buffer

    async def wait(self, seconds: float) -> bool:
        """Wait for something new; False when nothing came in this time."""
        is_notified = True
        if self.cursor + 1 not in self.buffer and self.cursor >= self.last_index:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.woken.wait()
            is_notified = self.woken.is_set()
        self.woken.clear()
        return is_notified
