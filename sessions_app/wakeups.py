"""Wake-ups notify the web processes that a session has new chunks. They are hints and may be lost.

There are two transports with the same two calls. In one process, ``loop.call_soon_threadsafe`` is called from the
worker's thread. Between processes, a Redis channel carries one sealed message for each group commit. Channels' layers
are not used for this: the in-memory one, fed from another thread, delivered nothing for 4.5 s and dropped 50 of 150
messages in silence.

Chunks in a wake-up are sent to clients as they are, so only committed ones may arrive. The seal proves that a process
of this deployment published them after a commit. It does not prove when: a message can be recorded and sent again. That
is harmless for the same session, because committed chunks never change. A later session with the same id differs in
``opened_at``.
"""

from __future__ import annotations

import asyncio
import datetime
import functools
import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import redis
import redis.asyncio
from django.conf import settings

from sessions_app.deltas import StoredDelta
from sessions_app.sealing import SEAL_BYTES, DroppedMessages, NotSealed, seal, unseal

log = logging.getLogger(__name__)

CHANNEL = "sambung:chunks"
RECONNECT_SECONDS = 0.5
#: after a failure nothing is published for this long: otherwise every commit waits for the time-out of a hanging Redis
PAUSE_SECONDS = 3.0
#: a message that would be larger names the sessions without their chunks, and the hubs read them from the database
MAX_MESSAGE_BYTES = 256 * 1024


class StreamChunk(NamedTuple):
    """A committed chunk as listeners see it."""

    index: int  # type: ignore[assignment]  # it hides tuple.index, which is not used here
    delta: StoredDelta


class Wakeup(NamedTuple):
    """A session has chunks up to ``last_index``. It may carry those just committed, which saves the read."""

    session_id: str
    last_index: int
    chunks: tuple[StreamChunk, ...] = ()
    #: when the session was created; without it the chunks are not used
    opened_at: datetime.datetime | None = None


#: called on the subscriber's event loop with the wake-ups of one message
Receiver = Callable[[Sequence[Wakeup]], None]


class Transport(Protocol):
    def publish(self, wakeups: Sequence[Wakeup]) -> None:
        """Notify all receivers. May be called from any thread. Does not raise while the transport is down."""

    async def receive(self, receiver: Receiver, subscribed: Callable[[], None] = lambda: None) -> None:
        """Call ``receiver`` for every message until cancelled, on this loop.

        ``subscribed`` is called when the subscription begins, and again after each loss of the connection: wake-ups
        before that may be missed.
        """


class InProcessTransport:
    """Transport for the embedded mode, where web and worker are threads of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._receivers: dict[Receiver, asyncio.AbstractEventLoop] = {}

    def publish(self, wakeups: Sequence[Wakeup]) -> None:
        with self._lock:
            receivers = list(self._receivers.items())
        for receiver, loop in receivers:
            try:
                loop.call_soon_threadsafe(receiver, wakeups)
            except RuntimeError:  # the loop is closed, so its receive() cannot unsubscribe
                with self._lock:
                    self._receivers.pop(receiver, None)

    async def receive(self, receiver: Receiver, subscribed: Callable[[], None] = lambda: None) -> None:
        with self._lock:
            self._receivers[receiver] = asyncio.get_running_loop()
        subscribed()
        try:
            await asyncio.Event().wait()
        finally:
            with self._lock:
                self._receivers.pop(receiver, None)


class RedisTransport:
    """Transport for several processes. Publishing and receiving reconnect independently."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._publisher = redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
        # Redis channels span all database numbers: deployments that share a server would receive each other's messages.
        self.channel = f"{CHANNEL}:{self._publisher.connection_pool.connection_kwargs.get('db') or 0}"
        self._paused_until = 0.0
        self._dropped = DroppedMessages(f"channel {self.channel}")

    def publish(self, wakeups: Sequence[Wakeup]) -> None:
        if time.monotonic() < self._paused_until:
            return
        try:
            self._publisher.publish(self.channel, seal(encode(wakeups), self.channel))
        except redis.RedisError as exc:
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            log.warning("wake-ups were not published; listeners will find the chunks by polling: %s", exc)

    def _open(self, message: bytes) -> list[Wakeup] | None:
        """The wake-ups of a message; None when no process of this deployment has sealed it. It is not parsed then."""
        try:
            if len(message) <= MAX_MESSAGE_BYTES + SEAL_BYTES:
                return decode(unseal(message, self.channel))
        except NotSealed:
            pass
        self._dropped.add(len(message))
        return None

    async def receive(self, receiver: Receiver, subscribed: Callable[[], None] = lambda: None) -> None:
        while True:
            try:
                # The connection belongs to this task: a client that two event loops share fails on the second. It does
                # not send the library's name to Redis: finding that out takes longer than the subscription.
                async with redis.asyncio.Redis.from_url(
                    self._url, socket_connect_timeout=2, driver_info=None
                ) as client:
                    async with client.pubsub(ignore_subscribe_messages=True) as subscription:
                        await subscription.subscribe(self.channel)
                        subscribed()
                        async for message in subscription.listen():
                            if (opened := self._open(message["data"])) is not None:
                                receiver(opened)
                            # Messages that have arrived are read without waiting: a flood would block the loop.
                            await asyncio.sleep(0)
            except (redis.RedisError, OSError) as exc:
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    # The client closes its connection under a time-out, and may mistake the cancellation for it.
                    raise asyncio.CancelledError from exc
                log.warning("the wake-up channel is down; polling until it is back: %s", exc)
                await asyncio.sleep(RECONNECT_SECONDS)


def encode(wakeups: Sequence[Wakeup]) -> bytes:
    """One message: with the chunks if it is at most ``MAX_MESSAGE_BYTES`` long, else without."""
    entries = [
        (wakeup.session_id, wakeup.last_index, wakeup.chunks, wakeup.opened_at and wakeup.opened_at.isoformat())
        for wakeup in wakeups
    ]
    message = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    if len(message) <= MAX_MESSAGE_BYTES:
        return message
    return json.dumps([(wakeup.session_id, wakeup.last_index, (), None) for wakeup in wakeups]).encode()


def decode(message: bytes) -> list[Wakeup]:
    return [
        Wakeup(
            session_id,
            last_index,
            tuple(StreamChunk(index, delta) for index, delta in chunks),
            opened_at and datetime.datetime.fromisoformat(opened_at),
        )
        for session_id, last_index, chunks, opened_at in json.loads(message)
    ]


@functools.cache
def transport() -> Transport:
    """This process's transport, by ``REDIS_URL``."""
    return RedisTransport(settings.REDIS_URL) if settings.REDIS_URL else InProcessTransport()


def publish(wakeups: Sequence[Wakeup]) -> None:
    """Notify every hub, from any thread, after the commit. Never raises: the commit must not look failed."""
    try:
        transport().publish(wakeups)
    except Exception:
        log.exception("wake-ups were not published; listeners will find the chunks by polling")
