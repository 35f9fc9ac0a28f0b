"""Wake-ups: a hint that may be lost, from any thread to every hub."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import redis
from django.conf import settings

from sessions_app import wakeups
from sessions_app.sealing import seal
from sessions_app.wakeups import InProcessTransport, RedisTransport, StreamChunk, Transport, Wakeup, decode, encode
from tests import services

CHUNKS = (StreamChunk(4, {"type": "text", "text": "ya"}), StreamChunk(5, {"type": "end"}))
OPENED = datetime.datetime(2026, 5, 17, 8, 30, 0, 123456, tzinfo=datetime.UTC)
WAKEUP = Wakeup("sess_a", 5, CHUNKS, OPENED)
FORGED = Wakeup("sess_a", 5, (StreamChunk(5, {"type": "text", "text": "FORGED"}),), OPENED)
NOT_OURS = [
    b"",
    b"\xff",
    b"not json",
    b"null",
    encode([FORGED]),
    json.dumps([("sess_a", 5, [(5, {"type": "end"})])]).encode(),
    b"x" * 1_000_000,
]
DEADLINE_SECONDS = 20


@pytest.mark.parametrize(
    "heard",
    [
        [],
        [WAKEUP],
        [Wakeup("a", 0), WAKEUP, Wakeup("b", 2**31 - 1)],
        [Wakeup("a", 1, (StreamChunk(1, {"type": "text", "text": "\u2028\x00\n👋🏽 é"}),))],
    ],
)
def test_what_is_encoded_comes_back(heard: list[Wakeup]) -> None:
    assert decode(encode(heard)) == heard


def test_a_message_that_is_too_large_names_its_sessions_without_their_chunks() -> None:
    text = "x" * wakeups.MAX_MESSAGE_BYTES
    message = encode([Wakeup("a", 7, (StreamChunk(7, {"type": "text", "text": text}),)), WAKEUP])
    assert len(message) < 1000
    assert decode(message) == [Wakeup("a", 7), Wakeup("sess_a", 5)]


async def heard_through(transport: Transport, publish: Callable[[], None], count: int) -> list[Wakeup]:
    """What a receiver on this loop hears while threads call ``publish``, until that is ``count`` wake-ups."""
    heard: list[Wakeup] = []
    threads: set[int] = set()

    def hear(arrived: object) -> None:
        threads.add(threading.get_ident())
        heard.extend(arrived)  # type: ignore[arg-type]

    receiving = asyncio.create_task(transport.receive(hear))
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(heard) < count:
                await asyncio.to_thread(publish)
                await asyncio.sleep(0.01)
    finally:
        receiving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await receiving
    assert threads == {threading.get_ident()}
    return heard


def test_a_thread_wakes_the_loop_in_the_same_process() -> None:
    transport = InProcessTransport()
    heard = asyncio.run(heard_through(transport, lambda: transport.publish([WAKEUP]), count=50))
    assert all(wakeup == WAKEUP for wakeup in heard)


def test_every_receiver_of_a_process_is_told() -> None:
    transport = InProcessTransport()

    async def two() -> list[list[Wakeup]]:
        return await asyncio.gather(
            *(heard_through(transport, lambda: transport.publish([WAKEUP]), count=1) for _ in range(2))
        )

    first, second = asyncio.run(two())
    assert first[0] == second[0] == WAKEUP


def test_nobody_is_told_after_leaving() -> None:
    transport = InProcessTransport()
    heard = asyncio.run(heard_through(transport, lambda: transport.publish([WAKEUP]), count=1))
    before = len(heard)
    transport.publish([WAKEUP])
    assert len(heard) == before


def test_a_loop_that_ended_without_a_word_is_dropped() -> None:
    transport = InProcessTransport()
    heard: list[Wakeup] = []
    loop = asyncio.new_event_loop()
    receiving = transport.receive(heard.extend)
    task = loop.create_task(receiving)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    transport.publish([WAKEUP])
    transport.publish([WAKEUP])
    assert heard == []
    assert transport._receivers == {}
    # The task died with its loop: it is ended here, or Python would complain of it.
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    receiving.close()


@pytest.fixture
def redis_transport() -> Iterator[RedisTransport]:
    transport = RedisTransport(services.REDIS_URL)
    yield transport
    transport._publisher.close()


@pytest.mark.redis
def test_a_thread_wakes_a_loop_through_redis(redis_transport: RedisTransport) -> None:
    heard = asyncio.run(heard_through(redis_transport, lambda: redis_transport.publish([WAKEUP]), count=20))
    assert all(wakeup == WAKEUP for wakeup in heard)


@pytest.mark.redis
def test_deployments_on_one_server_do_not_hear_each_other(redis_transport: RedisTransport) -> None:
    server, _, number = services.REDIS_URL.rpartition("/")
    other = RedisTransport(f"{server}/{int(number) - 1}")

    def publish() -> None:
        other.publish([Wakeup("sess_a", 5, (StreamChunk(5, {"type": "text", "text": "of another"}),))])
        redis_transport.publish([WAKEUP])

    heard = asyncio.run(heard_through(redis_transport, publish, count=5))
    other._publisher.close()
    assert all(wakeup == WAKEUP for wakeup in heard)


@pytest.mark.redis
def test_a_message_that_is_not_ours_is_passed_over(
    redis_transport: RedisTransport, caplog: pytest.LogCaptureFixture
) -> None:
    with redis.Redis.from_url(services.REDIS_URL) as client:

        def publish() -> None:
            for message in NOT_OURS:
                client.publish(redis_transport.channel, message)
            redis_transport.publish([WAKEUP])

        with caplog.at_level(logging.WARNING):
            heard = asyncio.run(heard_through(redis_transport, publish, count=3))
    assert all(wakeup == WAKEUP for wakeup in heard)
    # All of it in one line, and none of it in that line.
    [line] = caplog.messages
    assert "dropped" in line
    assert "FORGED" not in line


@pytest.mark.redis
def test_a_message_of_another_deployment_is_passed_over(
    redis_transport: RedisTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis.Redis.from_url(services.REDIS_URL) as client:
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(settings, "SECRET_KEY", "another" * 10)
            forged = seal(encode([FORGED]), redis_transport.channel)

        def publish() -> None:
            client.publish(redis_transport.channel, forged)
            client.publish(redis_transport.channel, seal(encode([FORGED]), "sambung:chunks:another"))
            redis_transport.publish([WAKEUP])

        heard = asyncio.run(heard_through(redis_transport, publish, count=3))
    assert all(wakeup == WAKEUP for wakeup in heard)


@pytest.mark.redis
def test_a_flood_of_junk_leaves_the_loop_to_others(redis_transport: RedisTransport) -> None:
    """Fifty thousand messages lie there already: reading them must not be one turn of the loop."""
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main() -> None:
        with redis.Redis.from_url(services.REDIS_URL) as client:
            heard: list[Wakeup] = []
            receiving = asyncio.create_task(redis_transport.receive(heard.extend))
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not heard:
                    redis_transport.publish([WAKEUP])
                    await asyncio.sleep(0.01)
                heard.clear()
                with client.pipeline(transaction=False) as flood:
                    for _ in range(50_000):
                        flood.publish(redis_transport.channel, b"junk")
                    flood.execute()
                redis_transport.publish([WAKEUP])
                counting = asyncio.create_task(count_turns())
                while not heard:  # noqa: ASYNC110  (as the hub would, on the same loop)
                    await asyncio.sleep(0)
            for task in (receiving, counting):
                task.cancel()
            await asyncio.gather(receiving, counting, return_exceptions=True)

    asyncio.run(main())
    assert turns > 10_000


@pytest.mark.redis
def test_a_broken_subscription_is_made_again(redis_transport: RedisTransport) -> None:
    with redis.Redis.from_url(services.REDIS_URL) as client:
        broken = 0

        def publish() -> None:
            nonlocal broken
            redis_transport.publish([WAKEUP])
            if broken < 3:
                # Those that have subscribed to something: ours, in this database number.
                for connection in client.client_list(_type="pubsub"):
                    if connection["db"] == services.REDIS_URL.rpartition("/")[2]:
                        broken += 1
                        client.client_kill_filter(_id=connection["id"])

        heard = asyncio.run(heard_through(redis_transport, publish, count=20))
    assert broken
    assert all(wakeup == WAKEUP for wakeup in heard)


def test_a_redis_that_is_away_is_not_asked_at_every_commit(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        transport = RedisTransport(f"redis://127.0.0.1:{nobody.getsockname()[1]}/0")
        with caplog.at_level(logging.WARNING):
            for _ in range(20):
                transport.publish([WAKEUP])
        transport._publisher.close()
    # A Redis that hangs costs seconds a try, and the writer must not pay them for each commit.
    assert len(caplog.records) == 1
