"""One reader a process: every listener of every session hangs on it, and it reads only for replay and for gaps.

A listener costs an entry in a dictionary and an event, no thread and no connection. Wake-ups carry the committed
chunks; whoever misses one is told by the poll, one query for all sessions of the process, and reads what it lacks.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import weakref
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import NamedTuple

from django.conf import settings
from django.db import Error, InterfaceError, OperationalError
from django.db.models import Count
from django.utils import timezone

from sessions_app import metrics, wakeups
from sessions_app.db import in_db
from sessions_app.log_lines import short_id
from sessions_app.models import START, ChatSession, Chunk, Presence, SessionEvent, is_terminal
from sessions_app.wakeups import StreamChunk, Wakeup

log = logging.getLogger(__name__)

#: rows a replay reads at a time
PAGE_CHUNKS = 1000
#: committed chunks kept for a listener that is slow to take them; beyond, it reads them again
BUFFER_CHUNKS = 500
#: how long it goes on hearing wake-ups with nobody listening: to subscribe anew costs the next stream milliseconds
LINGER_SECONDS = 30.0
#: a session with more listeners here has a crowd. A delivery takes the loop some 0.2 ms, so that 300 listeners of one
#: stream would take all of it: those of crowds are woken so many at a time, and get more chunks at once
CROWD_LISTENERS = 10
CROWD_WAKES = 20
CROWD_PAUSE_SECONDS = 0.01
#: of so many sessions, those told of last, the last index is remembered
TOLD_SESSIONS = 1000
#: resumes that wait to be written into their sessions' histories, of all sessions; more are not kept
MAX_NOTED_RESUMES = 1000
#: of one session; a client that reconnects every second fills no table
MAX_RESUMES_OF_SESSION = 100
FIRST_CHUNK = StreamChunk(0, START)


class SessionGone(Exception):
    """The session's chunks were removed while somebody listened."""


class Listener:
    """Where one reader of one session stands."""

    __slots__ = ("buffer", "caller", "cursor", "gone", "last_index", "opened_at", "woken")

    def __init__(self, cursor: int, opened_at: datetime.datetime | None = None, caller: str = "") -> None:
        #: who listens
        self.caller = caller
        #: of the session: chunks of an earlier one with the same id are not its own
        self.opened_at = opened_at
        #: index of the last chunk handed out
        self.cursor = cursor
        #: the highest index known to be committed
        self.last_index = cursor
        #: chunks that came with wake-ups, by index
        self.buffer: dict[int, StreamChunk] = {}
        self.woken = asyncio.Event()
        self.gone = False

    def hear(self, last_index: int, chunks: Iterable[StreamChunk] = ()) -> bool:
        """Keep what is new to it, and say whether something is; whoever calls sees to it that it is woken."""
        if last_index <= self.cursor:
            return False
        self.last_index = max(self.last_index, last_index)
        for chunk in chunks:
            if chunk.index > self.cursor and len(self.buffer) < BUFFER_CHUNKS:
                self.buffer[chunk.index] = chunk
        return True

    def take(self) -> list[StreamChunk]:
        """The buffered chunks that follow the cursor without a gap."""
        taken: list[StreamChunk] = []
        while (chunk := self.buffer.pop(self.cursor + 1, None)) is not None:
            taken.append(chunk)
            self.cursor = chunk.index
        return taken

    def take_page(self, page: Sequence[StreamChunk]) -> None:
        if page:
            self.cursor = page[-1].index
            self.last_index = max(self.last_index, self.cursor)
        else:
            # Told of rows that are not there: they were removed. The poll will say so; asking again is no use.
            self.last_index = self.cursor
        for index in [index for index in self.buffer if index <= self.cursor]:
            del self.buffer[index]


class Resume(NamedTuple):
    """A client came back to the stream of a session, with the chunks up to ``after``."""

    session_id: str
    after: int
    at: datetime.datetime


class Hub:
    """The listeners of one event loop. It runs its two tasks while somebody listens, and a little longer."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[Listener]] = {}
        #: caller → listeners, where there are some
        self._callers: Counter[str] = Counter()
        self._tasks: list[asyncio.Task[None]] = []
        self._end: asyncio.TimerHandle | None = None
        #: since when wake-ups are heard without a gap that this end knows of
        self._hears_since: datetime.datetime | None = None
        #: listeners in crowds that are to be woken, in order
        self._due: OrderedDict[Listener, None] = OrderedDict()
        self._waking: asyncio.Handle | None = None
        #: session → last index told, the oldest first: for a listener that comes just after
        self._told: OrderedDict[str, int] = OrderedDict()
        #: resumes since the last write: session, index of the last chunk that the client has, and when
        self._resumes: list[Resume] = []

    @property
    def open_streams(self) -> int:
        return self._callers.total()

    def open_streams_of(self, caller: str) -> int:
        return self._callers[caller]

    def note_resume(self, session_id: str, after: int) -> None:
        """A client resumes the stream after this index. The next poll writes it down, with all others."""
        if len(self._resumes) < MAX_NOTED_RESUMES:
            self._resumes.append(Resume(session_id, after, timezone.now()))

    async def follow(
        self,
        session_id: str,
        after: int,
        *,
        idle_seconds: float,
        opened_at: datetime.datetime | None = None,
        silent_since: datetime.datetime | None = None,
        caller: str = "",
    ) -> AsyncGenerator[list[StreamChunk]]:
        """The session's chunks after the index ``after``, in batches, to the terminal one.

        Yields an empty batch when nothing came for ``idle_seconds``. Raises ``SessionGone`` when the chunks were
        removed. Closing the iterator costs nothing: the session goes on. ``opened_at`` is the session's; without it the
        chunks in wake-ups are not used, and every one is read from the database. A session that was opened at
        ``silent_since``, and had its first chunk only when the caller read its row, need not be read, if whatever it
        said since has been heard here. ``caller`` is who listens.
        """
        listener = Listener(after, opened_at, caller)
        self._listeners.setdefault(session_id, set()).add(listener)
        self._callers[caller] += 1
        metrics.listeners.inc()
        # Listening comes before reading: what is committed between the two is heard.
        self._ensure_running()
        must_read = silent_since is None or self._hears_since is None or silent_since < self._hears_since
        try:
            if not must_read:
                listener.hear(0, [FIRST_CHUNK])
                listener.hear(self._told.get(session_id, 0))
            while True:
                if must_read:
                    try:
                        page = await in_db(read_page, session_id, listener.cursor)
                    except (OperationalError, InterfaceError) as exc:
                        log.warning("the hub could not read session %s and tries again: %s", short_id(session_id), exc)
                        await asyncio.sleep(settings.HUB_POLL_SECONDS)
                        yield []
                        continue
                    if page and page[0].index != listener.cursor + 1:
                        raise SessionGone(session_id)  # the sweeper is at work: no stream goes on behind a gap
                    listener.take_page(page)
                    batch = page
                    must_read = len(page) == PAGE_CHUNKS
                else:
                    batch = listener.take()
                    must_read = not batch and listener.cursor < listener.last_index
                    metrics.hub_gaps.inc(must_read)
                if batch:
                    yield batch
                    if is_terminal(batch[-1].delta):
                        return
                elif listener.gone:
                    raise SessionGone(session_id)
                elif not must_read and not await self._wait(listener, idle_seconds):
                    yield []
        finally:
            metrics.listeners.dec()
            self._forget(session_id, listener)

    @staticmethod
    async def _wait(listener: Listener, seconds: float) -> bool:
        """False when nothing was heard in that time."""
        if listener.cursor + 1 not in listener.buffer and listener.cursor >= listener.last_index:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await listener.woken.wait()
            heard = listener.woken.is_set()
        else:
            heard = True
        listener.woken.clear()
        return heard

    def _forget(self, session_id: str, listener: Listener) -> None:
        listeners = self._listeners.get(session_id)
        if listeners is None or listener not in listeners:
            return
        listeners.discard(listener)
        self._due.pop(listener, None)
        self._callers[listener.caller] -= 1
        if not self._callers[listener.caller]:
            del self._callers[listener.caller]
        if not listeners:
            del self._listeners[session_id]
        if not self._listeners and self._tasks:
            self._end = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._stop)

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        self._hears_since = None
        self._told.clear()

    def _ensure_running(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None
        # Neither ends by itself; should one have failed, the next listener starts both again.
        if not self._tasks or any(task.done() for task in self._tasks):
            self._stop()
            loop = asyncio.get_running_loop()
            self._tasks = [
                loop.create_task(wakeups.transport().receive(self.hear), name="hub wake-ups"),
                loop.create_task(self._poll(), name="hub poll"),
            ]

    def hear(self, heard: Sequence[Wakeup]) -> None:
        """On the hub's loop: what a transport received."""
        if not heard:
            self._hears_since = timezone.now()
        for wakeup in heard:
            # Not less than before: one that is sent again must not hide what was told since.
            self._told[wakeup.session_id] = max(wakeup.last_index, self._told.pop(wakeup.session_id, 0))
            listeners = self._listeners.get(wakeup.session_id, ())
            for listener in listeners:
                is_same = wakeup.opened_at is not None and wakeup.opened_at == listener.opened_at
                if listener.hear(wakeup.last_index, wakeup.chunks if is_same else ()):
                    self._wake(listener, in_crowd=len(listeners) > CROWD_LISTENERS)
        while len(self._told) > TOLD_SESSIONS:
            self._told.popitem(last=False)

    def _wake(self, listener: Listener, *, in_crowd: bool) -> None:
        if not in_crowd:
            listener.woken.set()
            return
        self._due[listener] = None
        if self._waking is None:
            # Not yet: those that hear the same come first into the queue.
            self._waking = asyncio.get_running_loop().call_soon(self._wake_some)

    def _wake_some(self) -> None:
        for _ in range(min(CROWD_WAKES, len(self._due))):
            self._due.popitem(last=False)[0].woken.set()
        loop = asyncio.get_running_loop()
        self._waking = loop.call_later(CROWD_PAUSE_SECONDS, self._wake_some) if self._due else None

    async def _poll(self) -> None:
        """Find what no wake-up told, and write down which sessions have listeners here."""
        presence_due = 0.0
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(settings.HUB_POLL_SECONDS)
            session_ids = sorted(self._listeners)
            try:
                if self._resumes:
                    resumes, self._resumes = self._resumes, []
                    await in_db(write_resumes, resumes)
                if not session_ids:
                    continue
                last_indexes = await in_db(read_last_indexes, session_ids)
                if loop.time() >= presence_due:
                    await in_db(write_presence, session_ids)
                    presence_due = loop.time() + settings.HUB_PRESENCE_SECONDS
            except Error as exc:
                log.warning("the hub could not read and tries again: %s", exc)
                continue
            for session_id in session_ids:
                last_index = last_indexes.get(session_id)
                listeners = self._listeners.get(session_id, ())
                for listener in listeners:
                    listener.gone |= last_index is None
                    if listener.gone or listener.hear(last_index or 0):
                        self._wake(listener, in_crowd=len(listeners) > CROWD_LISTENERS)


def read_page(session_id: str, after: int) -> list[StreamChunk]:
    rows = Chunk.objects.after(session_id, after).values_list("index", "delta")[:PAGE_CHUNKS]
    return [StreamChunk(index, delta) for index, delta in rows]


def read_last_indexes(session_ids: Sequence[str]) -> dict[str, int]:
    """The last committed index of each session that is there and has not expired."""
    rows = ChatSession.objects.filter(pk__in=session_ids, expired_at=None).values_list("pk", "next_index")
    return {session_id: next_index - 1 for session_id, next_index in rows}


def write_presence(session_ids: Sequence[str]) -> None:
    """In one statement, in the order of the ids: these sessions have a listener now."""
    existing = ChatSession.objects.filter(pk__in=session_ids, expired_at=None).values_list("pk", flat=True)
    now = timezone.now()
    Presence.objects.bulk_create(
        [Presence(session_id=session_id, seen_at=now) for session_id in sorted(existing)],
        update_conflicts=True,
        unique_fields=["session"],
        update_fields=["seen_at"],
    )


def write_resumes(resumes: Sequence[Resume]) -> None:
    """Add the resumes to the histories of their sessions, up to ``MAX_RESUMES_OF_SESSION`` of each."""
    session_ids = {resume.session_id for resume in resumes}
    existing = set(ChatSession.objects.filter(pk__in=session_ids).values_list("pk", flat=True))
    kind = SessionEvent.Kind.RESUMED
    noted = Counter(
        dict(
            SessionEvent.objects.filter(session_id__in=existing, kind=kind)
            .order_by()
            .values_list("session_id")
            .annotate(count=Count("pk"))
        )
    )
    events = []
    for session_id, after, at in resumes:
        if session_id in existing and noted[session_id] < MAX_RESUMES_OF_SESSION:
            noted[session_id] += 1
            events.append(SessionEvent(session_id=session_id, kind=kind, at=at, index=after))
    SessionEvent.objects.bulk_create(events)


_hubs: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = weakref.WeakKeyDictionary()


def hub() -> Hub:
    """The hub of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = Hub()
    return _hubs[loop]
