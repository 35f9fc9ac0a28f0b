"""Workers that die and messages that come twice: one set of chunks, contiguous, and the text of an undisturbed run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from httpx_sse import ServerSentEvent

from tests import services
from tests.live.events import ALL_EVENTS, events_of, indexes_of, long_question, read_stream, text_of
from tests.live.stack import EmbeddedStack, ScaledStack, Stack
from tests.waiting import wait_for

FIELDS = {"seed": 5, "temperature": 1, "max_tokens": 900}


@pytest.fixture
def own_scaled_server(tiny_model: Path, tmp_path: Path) -> Iterator[ScaledStack]:
    stack = ScaledStack(
        tmp_path,
        tiny_model,
        postgres_url=services.POSTGRES_URL,
        redis_url=services.OWN_REDIS_URL,
        SESSION_LEASE_SECONDS=2,
    )
    try:
        yield stack.start()
    finally:
        stack.stop()


def check_log(server: Stack, session_id: str) -> None:
    """The rows themselves: every index once, one terminal chunk, the counted tokens are the stored ones."""
    rows = server.query(
        'SELECT "index", delta FROM sessions_app_chunk WHERE session_id = ? ORDER BY "index"', session_id
    )
    assert [index for index, _ in rows] == list(range(len(rows)))
    assert sum('"end"' in str(delta) or "'end'" in str(delta) for _, delta in rows) == 1
    [(state, next_index)] = server.query(
        "SELECT state, next_index FROM sessions_app_chatsession WHERE id = ?", session_id
    )
    assert (state, next_index) == ("completed", len(rows))


def follow(server: Stack, body: dict[str, object], into: list[ServerSentEvent]) -> threading.Thread:
    """Read the stream in a thread, as a client that stays connected does."""

    def read() -> None:
        with server.client() as http, http.stream("POST", "/v1/chat/completions", json=body) as response:
            into.extend(events_of(response))

    thread = threading.Thread(target=read)
    thread.start()
    return thread


def has_begun(server: Stack, session_id: str) -> bool:
    return bool(server.query("SELECT 1 FROM sessions_app_chatsession WHERE id = ? AND next_index > 4", session_id))


@pytest.mark.redis
@pytest.mark.postgresql
def test_a_worker_killed_and_its_task_delivered_twice_write_one_stream(own_scaled_server: ScaledStack) -> None:
    server = own_scaled_server
    with server.client() as http:
        undisturbed = read_stream(http, long_question(**FIELDS))
        seen: list[ServerSentEvent] = []
        listening = follow(server, long_question(session_id="killed", **FIELDS), seen)
        wait_for(lambda: has_begun(server, "killed"))
        server.processes.pop("worker").kill()
        server.start_worker("second")
        server.start_worker("third")
        for _ in range(3):
            send_again(server, "killed")
        listening.join(60)
    assert indexes_of(seen) == list(range(len(seen)))
    assert seen[-1].data == "[DONE]"
    assert text_of(seen) == text_of(undisturbed)
    check_log(server, "killed")
    assert server.query("SELECT attempt FROM sessions_app_chatsession WHERE id = 'killed'")[0][0] == 2


@pytest.mark.redis
@pytest.mark.postgresql
def test_a_task_delivered_twice_while_it_runs_writes_one_stream(scaled_server: ScaledStack, session_id: str) -> None:
    server = scaled_server
    body = long_question(session_id=session_id, **FIELDS)
    with server.client() as http, http.stream("POST", "/v1/chat/completions", json=body) as response:
        stream = events_of(response)
        seen = [next(stream) for _ in range(3)]
        send_again(server, session_id)
        send_again(server, session_id)
        seen += stream
    assert indexes_of(seen) == list(range(len(seen)))
    check_log(server, session_id)
    assert server.query("SELECT attempt FROM sessions_app_chatsession WHERE id = ?", session_id) == [(1,)]


def test_the_one_process_killed_goes_on_by_itself_when_it_is_started_again(
    start_embedded: Callable[..., EmbeddedStack],
) -> None:
    server = start_embedded(SESSION_LEASE_SECONDS=1)
    with server.client() as http:
        undisturbed = text_of(read_stream(http, long_question(**FIELDS)))
        body = long_question(session_id="killed", **FIELDS)
        with http.stream("POST", "/v1/chat/completions", json=body) as response:
            stream = events_of(response)
            seen = [next(stream) for _ in range(5)]
            server.processes["serve"].kill()
    server.start()
    with server.client() as http:
        seen += read_stream(http, ALL_EVENTS, Last_Event_ID=seen[-1].id)
    assert indexes_of(seen) == list(range(len(seen)))
    assert text_of(seen) == undisturbed
    check_log(server, "killed")


def test_a_stopped_process_hands_its_sessions_back_with_every_token(
    start_embedded: Callable[..., EmbeddedStack],
) -> None:
    server = start_embedded()
    with server.client() as http:
        undisturbed = text_of(read_stream(http, long_question(**FIELDS)))
        with http.stream(
            "POST", "/v1/chat/completions", json=long_question(session_id="stopped", **FIELDS)
        ) as response:
            stream = events_of(response)
            seen = [next(stream) for _ in range(5)]
            assert server.processes["serve"].stop() == 0
    assert server.query("SELECT state FROM sessions_app_chatsession WHERE id = 'stopped'") == [("queued",)]
    server.start()
    with server.client() as http:
        seen += read_stream(http, ALL_EVENTS, Last_Event_ID=seen[-1].id)
    assert text_of(seen) == undisturbed
    check_log(server, "stopped")


def send_again(server: ScaledStack, session_id: str) -> None:
    """One more message for the session."""
    code = f"import django; django.setup()\nfrom sessions_app.store import queue\nqueue.send({session_id!r})\n"
    server.run_python(code)


@pytest.mark.redis
@pytest.mark.postgresql
def test_a_flushed_broker_loses_no_queued_session(own_scaled_server: ScaledStack) -> None:
    server = own_scaled_server
    server.processes.pop("worker").kill()
    seen: list[ServerSentEvent] = []
    listening = follow(server, long_question(session_id="queued", max_tokens=20), seen)
    wait_for(lambda: server.query("SELECT 1 FROM sessions_app_chatsession WHERE id = 'queued'"))
    with redis.Redis.from_url(services.OWN_REDIS_URL) as broker:
        broker.flushdb()
    server.start_worker("second")
    listening.join(60)
    assert seen[-1].data == "[DONE]"
    check_log(server, "queued")
