"""Somebody else reads and writes Redis as they like: streams are right, workers live, nothing is learned."""

from __future__ import annotations

import base64
import contextlib
import json
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu.pools
import pytest
import redis
from celery import Celery

from tests import services
from tests.faults.reader import Reader
from tests.live.events import ALL_EVENTS, QUESTION, long_question
from tests.live.stack import Process, ScaledStack
from tests.waiting import wait_for

pytestmark = [pytest.mark.redis, pytest.mark.postgresql]

#: every event is shown, so that a gap is seen
GREEDY: dict[str, Any] = {"temperature": 0} | ALL_EVENTS
QUEUE = "generate"
CHANNEL = f"sambung:chunks:{services.OWN_REDIS_URL.rpartition('/')[2]}"
#: a line of the log that tells of junk is no longer than this, whatever the junk
LINE_CHARACTERS = 400
ANSWER_SECONDS = 30.0


@pytest.fixture(scope="module")
def stack(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScaledStack]:
    services.require("redis", "postgresql")
    server = ScaledStack(
        tmp_path_factory.mktemp("hostile"),
        tiny_model,
        postgres_url=services.POSTGRES_URL,
        redis_url=services.OWN_REDIS_URL,
        # Long enough for a stranger to be at work before a worker finds the session.
        QUEUE_POLL_SECONDS=4,
    )
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def intruder() -> Iterator[redis.Redis]:
    with redis.Redis.from_url(services.OWN_REDIS_URL) as client:
        yield client


@pytest.fixture
def worker(stack: ScaledStack) -> Iterator[Process]:
    """It must be the same process afterwards, and serve. A test that ended one does not fail the next."""
    if not stack.processes["worker"].is_running():
        with redis.Redis.from_url(services.OWN_REDIS_URL) as client:
            client.flushdb()
        stack.start_worker("worker")
        stack.wait_for_health("modelReady")
    process = stack.processes["worker"]
    yield process
    assert process.is_running(), process.log.read_text()[-3000:]
    answer(stack)


def answer(stack: ScaledStack, **fields: Any) -> str:
    return text_in_time(Reader([stack.base_url], QUESTION | GREEDY | fields))


def text_in_time(reader: Reader) -> str:
    """A stream that nobody feeds is kept alive for ever."""
    reader.join(ANSWER_SECONDS)
    assert reader.is_done(), f"no answer within {ANSWER_SECONDS} s"
    assert reader.came_back == 0
    return reader.text()


@pytest.fixture(scope="module")
def expected(stack: ScaledStack) -> str:
    """What an undisturbed server answers."""
    return answer(stack)


def check_lines(lines: list[str]) -> None:
    assert len(lines) < 50, lines[:50]
    assert all(len(line) <= LINE_CHARACTERS for line in lines), lines
    assert not any("Traceback" in line for line in lines), lines


def new_lines(process: Process, before: int) -> list[str]:
    return process.log.read_text()[before:].splitlines()


@contextlib.contextmanager
def celery_of_a_stranger() -> Iterator[Celery]:
    """Celery's own client, which knows the address of the broker and nothing else."""
    with Celery(broker=services.OWN_REDIS_URL, set_as_current=False) as app:
        yield app
    # Kombu keeps its connections, and every process that is forked later would wait for what they asked last.
    kombu.pools.reset()


def envelope(**changes: Any) -> bytes:
    """A message as Celery would put it into a list of Redis."""
    body = changes.pop("body", base64.b64encode(json.dumps([["forged"], {}, {}]).encode()).decode())
    headers = {
        "lang": "py",
        "task": "inference.tasks.run_session",
        "id": "00000000-0000-0000-0000-000000000001",
        "eta": None,
        "expires": None,
        "retries": 0,
        "timelimit": [None, None],
    }
    message = {
        "body": body,
        "content-encoding": changes.pop("encoding", "utf-8"),
        "content-type": changes.pop("content_type", "application/json"),
        "headers": changes.pop("headers", headers | changes.pop("more", {})),
        "properties": {
            "correlation_id": "1",
            "reply_to": changes.pop("reply_to", "nobody"),
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "priority": changes.pop("priority", 0),
            "body_encoding": changes.pop("body_encoding", "base64"),
            "delivery_tag": "00000000-0000-0000-0000-000000000002",
        },
    }
    return json.dumps(message | changes).encode()


def arguments(*args: Any, **embed: Any) -> str:
    return base64.b64encode(json.dumps([args, {}, embed]).encode()).decode()


FORGED_TASK = {"task": "inference.tasks.run_session", "args": ["forged"], "kwargs": {}, "options": {}}
MESSAGES: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"not json",
    "not UTF-8": b"\xff\xfe\x00",
    "a number": b"1",
    "null": b"null",
    "a list": b"[]",
    "an empty object": b"{}",
    "deep": b"[" * 100_000,
    "no properties": json.dumps({"body": "", "headers": {}}).encode(),
    "properties of another kind": envelope(properties=[1]),
    "headers of another kind": envelope(headers=[1]),
    "no headers": envelope(headers=None),
    "headers without an id": envelope(headers={"task": "inference.tasks.run_session"}),
    "another task": envelope(more={"task": "celery.backend_cleanup"}),
    "an unknown task": envelope(more={"task": "os.system"}),
    "a task that is no text": envelope(more={"task": {"a": 1}}),
    "other arguments": envelope(body=arguments(1, 2, 3)),
    "an argument that is no text": envelope(body=arguments({"pk": "x"})),
    "bad base64": envelope(body="%%%"),
    "a body that is no text": envelope(body={"a": 1}),
    "unknown body encoding": envelope(body_encoding="rot13"),
    "pickle": envelope(
        body=base64.b64encode(pickle.dumps([["x"], {}, {}])).decode(),
        content_type="application/x-python-serialize",
        encoding="binary",
    ),
    "yaml": envelope(body=base64.b64encode(b"- [x]\n- {}\n- {}").decode(), content_type="application/x-yaml"),
    "unknown content type": envelope(content_type="application/x-none"),
    "unknown charset": envelope(encoding="klingon"),
    "compressed": envelope(more={"compression": "application/x-gzip"}),
    "far ETA": envelope(more={"eta": "9999-12-31T23:59:59.999999"}),
    "ETA that is no time": envelope(more={"eta": "soon"}),
    "expires that is no time": envelope(more={"expires": {"a": 1}}),
    "expired": envelope(more={"expires": "1970-01-01T00:00:00"}),
    "time limit of another kind": envelope(more={"timelimit": "x"}),
    "chord": envelope(body=arguments("forged", chord=FORGED_TASK)),
    "callbacks": envelope(body=arguments("forged", callbacks=[FORGED_TASK])),
    "errbacks": envelope(body=arguments(1, 2, errbacks=[FORGED_TASK])),
    "reply_to of another kind": envelope(reply_to={"a": [1]}),
    "priority of another kind": envelope(priority="high"),
    "protocol 1": envelope(headers={}, body=base64.b64encode(json.dumps(FORGED_TASK | {"id": "1"}).encode()).decode()),
    "large": b"x" * 20_000_000,
    "a forged session": envelope(),
}


def test_messages_that_are_not_ours_are_dropped_and_the_next_is_served(
    stack: ScaledStack, worker: Process, intruder: redis.Redis, expected: str
) -> None:
    before = len(worker.log.read_text())
    for kind, message in MESSAGES.items():
        intruder.lpush(QUEUE, message)
        wait_for(lambda: not intruder.llen(QUEUE))
        assert worker.is_running(), kind
    assert answer(stack) == expected
    check_lines(new_lines(worker, before))


def test_a_flood_of_junk_holds_nobody_up(
    stack: ScaledStack, worker: Process, intruder: redis.Redis, expected: str
) -> None:
    before = len(worker.log.read_text())
    for _ in range(20):
        intruder.lpush(QUEUE, *[b"junk"] * 1000)
    assert answer(stack) == expected
    wait_for(lambda: not intruder.llen(QUEUE))
    check_lines(new_lines(worker, before))
    assert "dropped from Redis queue" in worker.log.read_text()


def test_a_task_of_a_stranger_is_not_run(stack: ScaledStack, worker: Process, intruder: redis.Redis) -> None:
    """Celery's own client, which knows the address of the broker and nothing else."""
    with celery_of_a_stranger() as stranger:
        stranger.send_task("inference.tasks.run_session", args=["forged"], queue=QUEUE)
        stranger.send_task("inference.tasks.run_session", args=["forged"], queue=QUEUE, countdown=1, expires=2)
        stranger.send_task("celery.backend_cleanup", queue=QUEUE)
    wait_for(lambda: not intruder.llen(QUEUE))


def test_nobody_controls_workers_through_the_broker(stack: ScaledStack, worker: Process) -> None:
    commands: dict[str, dict[str, Any]] = {
        "pool_shrink": {"n": 16},
        "rate_limit": {"task_name": "inference.tasks.run_session", "rate_limit": "1/h"},
        "cancel_consumer": {"queue": QUEUE},
        "shutdown": {},
    }
    with celery_of_a_stranger() as stranger:
        for command, its_arguments in commands.items():
            stranger.control.broadcast(command, arguments=its_arguments)
        assert stranger.control.ping(timeout=1) == []


def put(client: redis.Redis, kind: str, key: str) -> None:
    # At once: whoever sends a session meanwhile would make a list of it.
    with client.pipeline(transaction=True) as pipeline:
        pipeline.delete(key)
        match kind:
            case "string":
                pipeline.set(key, "junk")
            case "list":
                pipeline.rpush(key, "junk", b"\xff")
            case "hash":
                pipeline.hset(key, "junk", "junk")
            case "set":
                pipeline.sadd(key, "junk", b"\xff")
            case "sorted set":
                pipeline.zadd(key, {"junk": 0, "more": 1})
            case "stream":
                pipeline.xadd(key, {"junk": "junk"})
        pipeline.execute()


KINDS = ["string", "list", "hash", "set", "sorted set", "stream"]
OTHER_KEYS = [
    "_kombu.binding.generate",
    "_kombu.binding.celery.pidbox",
    "_kombu.binding.reply.celery.pidbox",
    "unacked",
    "unacked_index",
    "unacked_mutex",
    "generate\x06\x163",
    "sambung:chunks:2",
]


def test_a_queue_that_is_no_list_is_told_and_read_when_it_is_mended_and_sessions_are_served_meanwhile(
    stack: ScaledStack, worker: Process, intruder: redis.Redis, expected: str
) -> None:
    before = len(worker.log.read_text())
    put(intruder, "hash", QUEUE)
    reader = Reader([stack.base_url], QUESTION | GREEDY)
    wait_for(lambda: any("WRONGTYPE" in line for line in new_lines(worker, before)))
    for kind in ("string", "set", "sorted set", "stream"):
        put(intruder, kind, QUEUE)
        time.sleep(0.2)
    assert text_in_time(reader) == expected
    intruder.delete(QUEUE)
    intruder.lpush(QUEUE, b"junk")
    wait_for(lambda: not intruder.llen(QUEUE))
    assert answer(stack) == expected
    check_lines(new_lines(worker, before))


def test_junk_in_keys_that_celery_would_use_changes_nothing(
    stack: ScaledStack, worker: Process, intruder: redis.Redis, expected: str
) -> None:
    for turn in range(len(KINDS)):
        for number, key in enumerate(OTHER_KEYS):
            put(intruder, KINDS[(number + turn) % len(KINDS)], key)
        assert answer(stack) == expected
    try:
        stack.start_worker("beside")
        wait_for(lambda: ready_workers(stack) == 2, seconds=60)
        assert answer(stack) == expected
        assert stack.processes.pop("beside").stop() == 0
    finally:
        intruder.delete(*OTHER_KEYS)


def ready_workers(stack: ScaledStack) -> int:
    return len(stack.query("SELECT 1 FROM inference_modelworker WHERE state = 'ready'"))


def test_a_worker_that_starts_beside_a_broken_queue_waits_for_it(
    stack: ScaledStack, worker: Process, intruder: redis.Redis
) -> None:
    put(intruder, "hash", QUEUE)
    late = stack.start_worker("late")
    try:
        wait_for(lambda: "WRONGTYPE" in late.log.read_text(), seconds=60)
        assert late.is_running()
        intruder.delete(QUEUE)
        answer(stack)
    finally:
        assert stack.processes.pop("late").stop() == 0


# --- Wake-ups ---


def forged(session_id: str, last_index: int = 2, **changes: Any) -> bytes:
    chunks = changes.get(
        "chunks",
        [[1, {"type": "text", "text": "FORGED"}], [2, {"type": "end"}]],
    )
    return json.dumps([[session_id, last_index, chunks]]).encode()


def test_what_a_stranger_publishes_is_in_nobodys_stream(
    stack: ScaledStack, worker: Process, intruder: redis.Redis, expected: str
) -> None:
    web = stack.processes["web"]
    before = len(web.log.read_text())
    # No worker gets it while the stranger is at work: whatever comes meanwhile is forged.
    put(intruder, "hash", QUEUE)
    reader = Reader([stack.base_url], QUESTION | GREEDY | {"session_id": "heard"})
    wait_for(lambda: reader.events)
    error = {"type": "error", "error": {"message": "FORGED"}, "status": 500}
    messages = [
        forged("heard"),
        forged("heard", 1, chunks=[[1, error]]),
        forged("heard", 1, chunks=[[1, {"type": "FORGED"}], [2, None]]),
        *[forged("heard", index, chunks=[[index, {"type": "end"}]]) for index in (3, 2, 1, 1)],
        forged("heard", 2**31 - 1, chunks=[]),
        *[b"", b"\xff\xfe", b"not json", b"null", b"[1]", b"[" * 100_000, b"{}", b"x" * 10_000_000],
        *[b"junk", forged("heard")] * 5000,
    ]
    for message in messages:
        intruder.publish(CHANNEL, message)
    with stack.client() as http:
        assert http.get("/health").json()["ok"]
    intruder.delete(QUEUE)
    assert text_in_time(reader) == expected
    check_lines(new_lines(web, before))
    assert "dropped from Redis channel" in web.log.read_text()


def test_whoever_reads_redis_learns_no_text_and_no_session(
    stack: ScaledStack, worker: Process, intruder: redis.Redis
) -> None:
    with intruder.monitor() as monitor, intruder.pubsub() as subscription:
        subscription.subscribe(CHANNEL)
        text = answer(stack, session_id="a-private-session", messages=[{"role": "user", "content": "rahasia"}])
        answer(stack)
        seen = b""
        while (message := subscription.get_message(timeout=0.5)) is not None:
            seen += message["data"] if isinstance(message["data"], bytes) else b""
        intruder.echo("the end")
        while (command := monitor.next_command()["command"]) != "ECHO the end":
            seen += command.encode("latin-1", "replace")
    assert len(seen) > 1000
    assert b"private-session" not in seen
    assert b"sess_" not in seen
    assert b"rahasia" not in seen
    words = {word for word in text.split() if len(word) > 3}
    assert words
    assert not [word for word in words if word.encode() in seen]


def test_a_long_stream_beside_all_of_it_has_the_text_of_an_undisturbed_run(
    stack: ScaledStack, worker: Process, intruder: redis.Redis
) -> None:
    fields: dict[str, Any] = {"temperature": 1, "seed": 11, "max_tokens": 600}
    undisturbed = text_in_time(Reader([stack.base_url], long_question(**fields)))
    reader = Reader([stack.base_url], long_question(session_id="long", **fields))
    while not reader.is_done():
        index = len(reader.events)
        for ahead in range(index, index + 3):
            chunks = [[ahead, {"type": "text", "text": "FORGED"}], [ahead + 1, {"type": "end"}]]
            intruder.publish(CHANNEL, forged("long", ahead + 1, chunks=chunks))
        intruder.lpush(QUEUE, b"not json", envelope(body=arguments("long")))
        time.sleep(0.01)
    assert text_in_time(reader) == undisturbed
