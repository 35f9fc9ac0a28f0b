"""The broker's transports: what is sent comes out, what a stranger puts there does not, and a stop is seen soon."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import redis
from celery.exceptions import WorkerShutdown
from celery.worker import state
from django.conf import settings
from kombu import Connection, Consumer, Exchange, Message, Producer, Queue
from kombu.pidbox import Mailbox
from kombu.transport.virtual import Transport

from sessions_app import broker
from sessions_app.broker import InProcessTransport, RedisTransport
from sessions_app.sealing import seal
from tests import services
from tests.waiting import wait_for

#: a name of its own, so that no worker of another test takes what is in it
TASKS = f"tests-broker-{os.getpid()}"
DEADLINE_SECONDS = 10.0
STRANGE = [b"", b"not json", b"\xff", b"{}", b"null", os.urandom(200), b"x" * 5_000_000]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "CELERY_TASK_DEFAULT_QUEUE", TASKS)
    monkeypatch.setattr(settings, "REDIS_URL", services.REDIS_URL)
    monkeypatch.setattr(broker, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(broker, "REFUSED_SECONDS", 0.05)


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    with redis.Redis.from_url(services.REDIS_URL) as client:
        yield client
        client.delete(TASKS)


def connection(transport: type[Transport] = RedisTransport) -> Connection:
    options = {"polling_interval": 0.01}
    return Connection("redis://", transport=f"sessions_app.broker:{transport.__name__}", transport_options=options)


def queue() -> Queue:
    return Queue(TASKS, Exchange(TASKS), routing_key=TASKS)


def send(*bodies: Any) -> None:
    with connection() as sending:
        for body in bodies:
            Producer(sending.default_channel).publish(body, routing_key=TASKS, serializer="json", declare=[queue()])


def received(receiving: Connection, count: int, *, ack: bool = True) -> list[Any]:
    """The bodies of the next messages."""
    bodies: list[Any] = []

    def take(body: Any, message: Message) -> None:
        bodies.append(body)
        if ack:
            message.ack()

    end = time.monotonic() + DEADLINE_SECONDS
    with Consumer(receiving.default_channel, [queue()], callbacks=[take], accept=["json"]):
        while len(bodies) < count and time.monotonic() < end:
            try:
                receiving.drain_events(timeout=0.1)
            except TimeoutError:
                continue
    return bodies


@pytest.mark.redis
def test_messages_come_out_in_order_and_as_they_were(client: redis.Redis) -> None:
    send("first", ["ünï", {"a": None}], {"n": 1.5})
    with connection() as receiving:
        assert received(receiving, 3) == ["first", ["ünï", {"a": None}], {"n": 1.5}]
    assert not client.exists(TASKS)


@pytest.mark.redis
def test_nothing_but_one_list_is_kept_in_redis_and_it_cannot_be_read(client: redis.Redis) -> None:
    before = set(client.keys())
    send("a-session-id")
    assert set(client.keys()) - before == {TASKS.encode()}
    [item] = client.lrange(TASKS, 0, -1)
    assert b"a-session-id" not in item
    assert b"content-type" not in item


@pytest.mark.redis
def test_what_a_stranger_puts_between_is_passed_over(client: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    send("first")
    [sealed] = cast("list[bytes]", client.lrange(TASKS, 0, -1))
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    client.lpush(TASKS, *STRANGE, changed, seal(b"{}", "another queue"), sealed[:40])
    send("second")
    with caplog.at_level(logging.WARNING), connection() as receiving:
        assert received(receiving, 2) == ["first", "second"]
    [line] = caplog.messages
    assert len(line) < 300


@pytest.mark.redis
def test_a_message_that_is_recorded_and_sent_again_comes_again(client: redis.Redis) -> None:
    """The broker may repeat: a claim makes the second delivery harmless."""
    send("once")
    client.lpush(TASKS, client.lindex(TASKS, 0))  # type: ignore[arg-type]
    with connection() as receiving:
        assert received(receiving, 2) == ["once", "once"]


WRONG: dict[str, Callable[[redis.Redis], object]] = {
    "string": lambda client: client.set(TASKS, "junk"),
    "hash": lambda client: client.hset(TASKS, "a", "b"),
    "set": lambda client: client.sadd(TASKS, "a"),
    "sorted set": lambda client: client.zadd(TASKS, {"a": 1}),
    "stream": lambda client: client.xadd(TASKS, {"a": "b"}),
}


@pytest.mark.redis
@pytest.mark.parametrize("kind", WRONG)
def test_a_key_of_another_type_is_told_of_and_read_when_it_is_mended(
    kind: str, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    WRONG[kind](client)
    with caplog.at_level(logging.WARNING), connection() as receiving:
        bodies: list[Any] = []
        reading = threading.Thread(target=lambda: bodies.extend(received(receiving, 1)))
        reading.start()
        wait_for(lambda: caplog.messages)
        with pytest.raises(Exception, match="WRONGTYPE"):
            send("lost")
        client.delete(TASKS)
        send("mended")
        reading.join(DEADLINE_SECONDS)
    assert bodies == ["mended"]
    [line] = caplog.messages
    assert "WRONGTYPE" in line
    assert "delete it" in line


@pytest.mark.redis
def test_what_was_fetched_and_not_begun_is_put_back_at_the_end(client: redis.Redis) -> None:
    send("first", "second")
    with connection() as receiving:
        assert received(receiving, 2, ack=False) == ["first", "second"]
    with connection() as receiving:
        assert sorted(received(receiving, 2)) == ["first", "second"]


@pytest.mark.parametrize("transport", [pytest.param(RedisTransport, marks=pytest.mark.redis), InProcessTransport])
def test_a_consumer_of_an_empty_queue_sees_that_its_worker_should_stop(
    transport: type[Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    with connection(transport) as receiving, Consumer(receiving.default_channel, [queue()]):
        threading.Timer(0.1, lambda: monkeypatch.setattr(state, "should_stop", os.EX_OK)).start()
        with pytest.raises(WorkerShutdown):
            receiving.drain_events(timeout=1000)


@pytest.mark.redis
def test_remote_control_that_is_turned_on_is_sealed_and_answered(client: redis.Redis) -> None:
    namespace = f"{TASKS}-control"
    stopping = threading.Event()

    def serve() -> None:
        with connection() as serving:
            mailbox = Mailbox(namespace, type="fanout")(serving)
            node = mailbox.Node("worker@here", channel=serving.default_channel)
            node.handler(ping)
            with node.listen():
                while not stopping.is_set():
                    try:
                        serving.drain_events(timeout=0.1)
                    except TimeoutError:
                        continue

    def ping(state: Any, **kwargs: Any) -> str:
        return "pong"

    worker = threading.Thread(target=serve)
    worker.start()
    try:
        with connection() as asking:
            wait_for(lambda: client.exists(f"sambung:bindings:{namespace}.pidbox"))
            client.lpush(f"worker@here.{namespace}.pidbox", b'{"method": "shutdown"}')
            replies = Mailbox(namespace, type="fanout")(asking).multi_call("ping", timeout=2, limit=1)
    finally:
        stopping.set()
        worker.join(DEADLINE_SECONDS)
        client.delete(*client.keys(f"*{namespace}*"))
    assert replies == [{"worker@here": "pong"}]
