"""Telling the web processes that a session has new chunks. A hint: it may be lost, the database may not.

Two transports with the same two calls. In one process, ``loop.call_soon_threadsafe`` from the worker's thread. Between
processes, one Redis channel that carries one sealed message for each group commit. Channels' layers are not used for
this: the in-memory one, fed from another thread, woke nobody for 4.5 s and dropped 50 of 150 messages in silence.

Chunks in a wake-up go to clients as they are, so only committed ones may arrive. The seal proves that a process of this
deployment published them after a commit. It does not prove when: a message can be recorded and sent again. That is
harmless for the same session, whose committed chunks never change. ``opened_at`` tells it from a later session with the
same id.
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

from sessions_app.models import Delta
from sessions_app.sealing import SEAL_BYTES, DroppedMessages, NotSealed, seal, unseal

log = logging.getLogger(__name__)

CHANNEL = "sambung:chunks"
RECONNECT_SECONDS = 0.5
#: after a failure nothing is published for so long: a Redis that hangs would cost its time-out at every commit
PAUSE_SECONDS = 3.0
#: a message that would be larger names the sessions without their chunks, and the hubs read
MAX_MESSAGE_BYTES = 256 * 1024


class StreamChunk(NamedTuple):
    """A committed chunk as listeners see it."""

    index: int  # type: ignore[assignment]  # it hides tuple.index, which nobody calls here
    delta: Delta


class Wakeup(NamedTuple):
    """A session has chunks up to ``last_index``; those just committed may come along to save the read."""

    session_id: str
    last_index: int
    chunks: tuple[StreamChunk, ...] = ()
    #: when the session was opened. Without it the chunks are not used.
    opened_at: datetime.datetime | None = None


#: called on the subscriber's event loop; with nothing when it begins to hear
Receiver = Callable[[Sequence[Wakeup]], None]


class Transport(Protocol):
    def publish(self, wakeups: Sequence[Wakeup]) -> None:
        """From any thread. Never raises for a transport that is down."""

    async def receive(self, receiver: Receiver) -> None:
        """Until cancelled, on the receiver's loop."""


class InProcessTransport:
    """For the embedded mode: web and worker are threads of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._receivers: dict[Receiver, asyncio.AbstractEventLoop] = {}

    def publish(self, wakeups: Sequence[Wakeup]) -> None:
        with self._lock:
            receivers = list(self._receivers.items())
        for receiver, loop in receivers:
            try:
                loop.call_soon_threadsafe(receiver, wakeups)
            except RuntimeError:  # that loop has closed; its receive() will not run again to unsubscribe
                with self._lock:
                    self._receivers.pop(receiver, None)

    async def receive(self, receiver: Receiver) -> None:
        with self._lock:
            self._receivers[receiver] = asyncio.get_running_loop()
        receiver([])
        try:
            await asyncio.Event().wait()
        finally:
            with self._lock:
                self._receivers.pop(receiver, None)


class RedisTransport:
    """For many processes. Publishing and receiving each reconnect by themselves."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._publisher = redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
        # Channels know no database numbers: deployments that share a server would hear each other.
        self.channel = f"{CHANNEL}:{self._publisher.connection_pool.connection_kwargs.get('db') or 0}"
        self._quiet_until = 0.0
        self._dropped = DroppedMessages(f"channel {self.channel}")

    def publish(self, wakeups: Sequence[Wakeup]) -> None:
        if time.monotonic() < self._quiet_until:
            return
        try:
            self._publisher.publish(self.channel, seal(encode(wakeups), self.channel))
        except redis.RedisError as exc:
            self._quiet_until = time.monotonic() + PAUSE_SECONDS
            log.warning("wake-ups were not published, listeners will find the chunks by polling: %s", exc)

    def _open(self, message: bytes) -> list[Wakeup] | None:
        """None for what no process of this deployment has sealed. Nothing of it is parsed."""
        try:
            if len(message) <= MAX_MESSAGE_BYTES + SEAL_BYTES:
                return decode(unseal(message, self.channel))
        except NotSealed:
            pass
        self._dropped.add(len(message))
        return None

    async def receive(self, receiver: Receiver) -> None:
        while True:
            try:
                # Each connection is this task's own: a client shared between event loops fails on the second. It does
                # not tell Redis which library it is: to find that out takes longer than the whole subscription.
                async with redis.asyncio.Redis.from_url(
                    self._url, socket_connect_timeout=2, driver_info=None
                ) as client:
                    async with client.pubsub(ignore_subscribe_messages=True) as subscription:
                        await subscription.subscribe(self.channel)
                        receiver([])
                        async for message in subscription.listen():
                            if (heard := self._open(message["data"])) is not None:
                                receiver(heard)
                            # A flood would keep the loop: what has arrived already is read without waiting.
                            await asyncio.sleep(0)
            except (redis.RedisError, OSError) as exc:
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    # The client closes its connection within a time-out, and may take the cancel for that.
                    raise asyncio.CancelledError from exc
                log.warning("the wake-up channel is down, polling meanwhile: %s", exc)
                await asyncio.sleep(RECONNECT_SECONDS)


def encode(wakeups: Sequence[Wakeup]) -> bytes:
    """At most ``MAX_MESSAGE_BYTES``, or without the chunks."""
    told = [
        (wakeup.session_id, wakeup.last_index, wakeup.chunks, wakeup.opened_at and wakeup.opened_at.isoformat())
        for wakeup in wakeups
    ]
    message = json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
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
    """Tell every hub. From any thread, after the commit, which must not look failed because of this: never raises."""
    try:
        transport().publish(wakeups)
    except Exception:
        log.exception("wake-ups were not published, listeners will find the chunks by polling")
