"""Celery's broker as kombu transports: one over Redis, where every message is sealed, and one within a process.

Kombu's own Redis transport trusts what it reads: a list item that is no JSON ends the worker. It also keeps bindings
and unacknowledged messages in Redis, each key one more to guard. Here Redis has one list for each queue, and nothing in
it is parsed before it is unsealed. Unacknowledged messages need no keys: workers find in the database what was lost.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from queue import Empty
from typing import Any, cast

import redis
from celery.worker import state
from django.conf import settings
from kombu.transport import memory, virtual
from kombu.utils.json import dumps, loads
from redis.backoff import NoBackoff
from redis.retry import Retry

from sessions_app.sealing import DroppedMessages, NotSealed, seal, unseal

log = logging.getLogger(__name__)

CONNECT_SECONDS = 2.0
#: without it a hanging Redis would block every thread that opens a session, with its database connection
ANSWER_SECONDS = 5.0
#: maximum seconds between two checks whether the worker should stop
POLL_SECONDS = 0.5
#: seconds between two tries while Redis refuses a command
REFUSED_SECONDS = 1.0
REFUSED_LOG_SECONDS = 10.0
#: seconds after which unread messages of remote control are deleted
CONTROL_EXPIRES_SECONDS = 60
BINDINGS = "sambung:bindings:%s"


class StopsSoon(virtual.Transport):
    """A transport whose consumer sees soon that its worker should stop; kombu's would wait for two seconds."""

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        """Deliver one message. Raises ``TimeoutError`` when none came in time, ``WorkerShutdown`` in a worker."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            state.maybe_shutdown()
            wait = POLL_SECONDS if end is None else min(POLL_SECONDS, end - time.monotonic())
            try:
                super().drain_events(connection, timeout=max(wait, 0.0))
            except TimeoutError:
                if end is not None and time.monotonic() >= end:
                    raise
            else:
                return


class InProcessTransport(StopsSoon, memory.Transport):
    """Transport for the embedded mode."""


class RedisChannel(virtual.Channel):
    """Queues as lists of sealed messages."""

    supports_fanout = True

    def __init__(self, connection: RedisTransport, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self._redis = connection.redis
        self._dropped = DroppedMessages("queue")
        self._refused_log_at = 0.0

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        sealed = seal(dumps(message).encode(), queue)
        if queue == settings.CELERY_TASK_DEFAULT_QUEUE:
            self._redis.lpush(queue, sealed)
        else:
            with self._redis.pipeline() as pipeline:
                pipeline.lpush(queue, sealed)
                pipeline.expire(queue, CONTROL_EXPIRES_SECONDS)
                pipeline.execute()

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        # Wait only for the queue of sessions: waiting for others would delay it.
        waits = queue == settings.CELERY_TASK_DEFAULT_QUEUE
        end = time.monotonic() + (POLL_SECONDS if waits else 0.0)
        while True:
            sealed = self._pop(queue, end - time.monotonic(), waits=waits)
            if sealed is None:
                raise Empty
            try:
                message: dict[str, Any] = loads(unseal(sealed, queue).decode())
            except NotSealed:
                self._dropped.add(len(sealed))
            else:
                return message
            if time.monotonic() >= end:
                raise Empty

    def _pop(self, queue: str, seconds: float, *, waits: bool) -> bytes | None:
        try:
            # At least a hundredth of a second: to Redis a time-out of 0 means no time-out.
            found = self._redis.brpop([queue], timeout=max(seconds, 0.01)) if waits else self._redis.rpop(queue)
        except redis.ResponseError as exc:
            # The connection works, but Redis refuses the command: a key of another type, or no permission.
            self._report_refused(queue, exc)
            time.sleep(REFUSED_SECONDS)
            return None
        return cast("bytes | None", found[1] if isinstance(found, list | tuple) else found)

    def _report_refused(self, queue: str, exc: redis.ResponseError) -> None:
        if (now := time.monotonic()) >= self._refused_log_at:
            self._refused_log_at = now + REFUSED_LOG_SECONDS
            log.error(
                "the queue %s cannot be read and will be retried: %s. If the key has the wrong type, delete it.",
                queue,
                exc,
            )

    def _restore(self, message: Any) -> None:
        """Put back a fetched message that was not started. If that fails, workers find its session in the database."""
        try:
            self._put(message.delivery_info["routing_key"], message.serializable())
        except redis.RedisError as exc:
            log.warning(
                "a received message could not be requeued; workers will find its session in the database: %s", exc
            )

    def _purge(self, queue: str) -> int:
        length = self._redis.llen(queue)
        self._redis.delete(queue)
        return length

    # --- for Celery's remote control, where it is turned on: messages to all workers, and their replies ---

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str | None, queue: str) -> None:
        # Sessions are sent to their queue by its name, so that bindings in Redis cannot redirect them.
        if queue != settings.CELERY_TASK_DEFAULT_QUEUE:
            self._redis.sadd(BINDINGS % exchange, json.dumps([routing_key, pattern, queue]))

    def get_table(self, exchange: str) -> list[tuple[str, str | None, str]]:
        """The queues that any process has bound to the exchange."""
        table: list[tuple[str, str | None, str]] = []
        for member in self._redis.smembers(BINDINGS % exchange):
            with contextlib.suppress(ValueError):  # junk
                routing_key, pattern, queue = json.loads(member)
                table.append((routing_key, pattern, queue))
        return table

    def _put_fanout(self, exchange: str, message: dict[str, Any], routing_key: str, **kwargs: Any) -> None:
        for queue in self._lookup(exchange, routing_key):
            self._put(queue, message)

    def _delete(self, queue: str, exchange: str, routing_key: str, pattern: str | None, *args: Any, **kw: Any) -> None:
        self._redis.srem(BINDINGS % exchange, json.dumps([routing_key, pattern, queue]))
        self._redis.delete(queue)


class RedisTransport(StopsSoon):
    """Connects to ``REDIS_URL``, which redis-py parses, as it does for the wake-ups.

    Kombu would parse it differently, and accept ``rediss://`` without checking the certificate.
    """

    Channel = RedisChannel
    driver_type = driver_name = "redis"
    implements = virtual.Transport.implements.extend(exchange_type=frozenset(["direct", "topic", "fanout"]))
    connection_errors = (
        *virtual.Transport.connection_errors,
        redis.ConnectionError,
        redis.TimeoutError,
        OSError,
    )
    channel_errors = (*virtual.Transport.channel_errors, redis.ResponseError)

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        # The client does not retry by itself: Celery does, and logs it.
        self.redis = redis.Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=CONNECT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )

    def establish_connection(self) -> Any:
        """Raises one of ``connection_errors`` when Redis does not answer."""
        self.redis.ping()
        return super().establish_connection()

    def close_connection(self, connection: Any) -> None:
        super().close_connection(connection)
        self.redis.close()
