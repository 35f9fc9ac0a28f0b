"""One hub per process, shared by all listeners of all sessions. It reads chunks only for replay and for gaps.

A listener costs an entry in a dictionary and an event, no thread and no connection. Wake-ups carry the committed
chunks. A poll, one query for all sessions of the process, finds out which sessions have chunks whose wake-up was lost.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Sequence

from django.conf import settings
from django.db import Error, InterfaceError, OperationalError
from django.utils import timezone

from sessions_app import metrics, wakeups
from sessions_app.db import in_db
from sessions_app.deltas import START, is_terminal
from sessions_app.errors import SessionExpired
from sessions_app.listener import Listener
from sessions_app.listener_wakeups import Waker
from sessions_app.log_lines import short_id
from sessions_app.models import ChatSession
from sessions_app.recent_wakeups import RecentWakeups
from sessions_app.store import listening
from sessions_app.store.listening import PAGE_CHUNKS, Resume
from sessions_app.wakeups import StreamChunk, Wakeup

log = logging.getLogger(__name__)

#: how long the hub stays subscribed without a listener: subscribing again would delay the next stream by milliseconds
LINGER_SECONDS = 30.0
#: maximum number of resumes (of all sessions) buffered until the next write; further ones are dropped
MAX_NOTED_RESUMES = 1000
FIRST_CHUNK = StreamChunk(0, START)


class Hub:
    """The listeners of one event loop. Its two tasks run until ``LINGER_SECONDS`` after the last one has left."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[Listener]] = {}
        #: caller → number of its listeners; entries with a count of 0 are removed
        self._callers: Counter[str] = Counter()
        self._tasks: list[asyncio.Task[None]] = []
        self._end: asyncio.TimerHandle | None = None
        self._recent = RecentWakeups()
        self._waker = Waker()
        #: resumes noted since the last write to the database
        self._resumes: list[Resume] = []

    @property
    def open_streams(self) -> int:
        return self._callers.total()

    def open_streams_of(self, caller: str) -> int:
        return self._callers[caller]

    def note_resume(self, session_id: str, after: int) -> None:
        """A client resumes the stream after this index. The next poll writes all noted resumes to the database."""
        if len(self._resumes) < MAX_NOTED_RESUMES:
            self._resumes.append(Resume(session_id, after, timezone.now()))

    async def follow(
        self, session: ChatSession, after: int, *, idle_seconds: float, caller: str = ""
    ) -> AsyncGenerator[list[StreamChunk]]:
        """The session's chunks after the index ``after``, in batches, up to and including the terminal one.

        Yields an empty batch when nothing came for ``idle_seconds``. Raises ``SessionExpired`` when the chunks were
        removed. Closing the iterator costs nothing, and the session continues. Of ``session`` only ``id``,
        ``created_at`` and ``next_index`` are read. ``open_streams_of`` counts the stream for ``caller``.
        """
        listener = Listener(session.pk, session.created_at, after, caller)
        # Listen before reading: a chunk committed between the two is delivered by a wake-up.
        self._add(listener)
        try:
            must_read = not self._recent.has_only_first_chunk(session)
            if not must_read:
                listener.notify(0, [FIRST_CHUNK])
            while True:
                if must_read:
                    try:
                        page = await in_db(listening.read_page, session.pk, listener.cursor)
                    except (OperationalError, InterfaceError) as exc:
                        log.warning(
                            "the hub could not read session %s and will retry: %s",
                            short_id(session.pk),
                            exc,
                            extra={"session": session.pk},
                        )
                        await asyncio.sleep(settings.HUB_POLL_SECONDS)
                        yield []
                        continue
                    if page and page[0].index != listener.cursor + 1:
                        # The sweeper is removing chunks right now. End the stream rather than skip some.
                        raise SessionExpired(session.pk)
                    listener.take_page(page)
                    batch = page
                    must_read = len(page) == PAGE_CHUNKS
                else:
                    batch = listener.take()
                    must_read = not batch and listener.has_gap
                    metrics.hub_gaps.inc(must_read)
                if batch:
                    yield batch
                    if is_terminal(batch[-1].delta):
                        return
                elif listener.gone:
                    raise SessionExpired(session.pk)
                elif not must_read and not await listener.wait(idle_seconds):
                    yield []
        finally:
            self._remove(listener)

    def notify(self, notified: Sequence[Wakeup]) -> None:
        """Handle wake-ups that the transport received. Must run on the hub's event loop."""
        self._recent.note(wakeup.session_id for wakeup in notified)
        for wakeup in notified:
            listeners = self._listeners.get(wakeup.session_id, ())
            for listener in listeners:
                chunks = wakeup.chunks if wakeup.opened_at == listener.opened_at else ()
                if listener.notify(wakeup.last_index, chunks):
                    self._waker.wake(listener, among=len(listeners))

    # --- Listeners ---

    def _add(self, listener: Listener) -> None:
        self._listeners.setdefault(listener.session_id, set()).add(listener)
        self._callers[listener.caller] += 1
        metrics.listeners.inc()
        if self._end is not None:
            self._end.cancel()
            self._end = None
        # Neither task ends by itself. If one has failed, the next listener starts both again.
        if not self._tasks or any(task.done() for task in self._tasks):
            self._stop()
            loop = asyncio.get_running_loop()
            receiving = wakeups.transport().receive(self.notify, self._recent.subscribed)
            self._tasks = [
                loop.create_task(receiving, name="hub wake-ups"),
                loop.create_task(self._poll(), name="hub poll"),
            ]

    def _remove(self, listener: Listener) -> None:
        metrics.listeners.dec()
        self._waker.forget(listener)
        self._callers[listener.caller] -= 1
        if not self._callers[listener.caller]:
            del self._callers[listener.caller]
        listeners = self._listeners[listener.session_id]
        listeners.discard(listener)
        if not listeners:
            del self._listeners[listener.session_id]
        if not self._listeners and self._tasks:
            self._end = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._stop)

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        self._recent.unsubscribed()

    # --- The poll ---

    async def _poll(self) -> None:
        """Find chunks whose wake-up was lost, and record which sessions have listeners or were resumed here."""
        presence_due = 0.0
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(settings.HUB_POLL_SECONDS)
            session_ids = sorted(self._listeners)
            try:
                if self._resumes:
                    resumes, self._resumes = self._resumes, []
                    await in_db(listening.write_resumes, resumes)
                if not session_ids:
                    continue
                last_indexes = await in_db(listening.read_last_indexes, session_ids)
                if loop.time() >= presence_due:
                    await in_db(listening.write_presence, session_ids)
                    presence_due = loop.time() + settings.HUB_PRESENCE_SECONDS
            except Error as exc:
                log.warning("the hub could not reach the database and will retry: %s", exc)
                continue
            self._compare(session_ids, last_indexes)

    def _compare(self, session_ids: Iterable[str], last_indexes: dict[str, int]) -> None:
        """Notify listeners of the last indexes in the database. A session without one was deleted or has expired."""
        for session_id in session_ids:
            last_index = last_indexes.get(session_id)
            listeners = self._listeners.get(session_id, ())
            for listener in listeners:
                listener.gone |= last_index is None
                if listener.gone or listener.notify(last_index or 0):
                    self._waker.wake(listener, among=len(listeners))


_hubs: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = weakref.WeakKeyDictionary()


def hub() -> Hub:
    """The hub of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = Hub()
    return _hubs[loop]
