"""``Last-Event-ID``: what came after the cursor, from the database, then live; never a second generation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.live.events import (
    ALL_EVENTS,
    QUESTION,
    WHOLE,
    events_of,
    indexes_of,
    long_question,
    read_bytes,
    read_stream,
    text_of,
)
from tests.live.stack import EmbeddedStack, Stack
from tests.waiting import wait_for


def finished_session(http: httpx.Client, **fields: Any) -> tuple[str, list[bytes], bytes]:
    """A finished session: its id, its events as bytes, and the whole stream."""
    whole = read_bytes(http, QUESTION | {"max_tokens": 200, "ignore_eos": True} | fields)
    events = [event + b"\n\n" for event in whole.split(b"\n\n") if event]
    session_id = events[0].split(b"id: ")[1].split(b":")[0].decode()
    return session_id, events, whole


def test_every_event_has_its_session_and_index_without_gaps(http: httpx.Client) -> None:
    events = read_stream(http, QUESTION | {"stream_options": {"include_usage": True}})
    assert indexes_of(events) == list(range(len(events)))
    assert len({event.id.rpartition(":")[0] for event in events}) == 1
    assert events[-1].data == "[DONE]"


@pytest.mark.parametrize("fields", [{}, {"logprobs": True, "top_logprobs": 2, "n": 2, "max_tokens": 60}], ids=["", "n"])
def test_a_finished_stream_resumed_at_every_index_has_the_same_bytes(http: httpx.Client, fields: Any) -> None:
    session_id, events, whole = finished_session(http, **fields)
    assert len(events) > 5
    offset = 0
    for event in events:
        index = event.split(b"id: ")[1].split(b"\n")[0].rpartition(b":")[2].decode()
        offset += len(event)
        resumed = read_bytes(http, {"stream": True}, Last_Event_ID=f"{session_id}:{index}")
        assert resumed == whole[offset:]


@pytest.mark.parametrize("fields", [{}, {"logprobs": True, "top_logprobs": 2, "n": 3}], ids=["", "n"])
def test_a_running_stream_resumed_at_every_index_has_the_same_bytes(
    server: Stack, http: httpx.Client, fields: Any
) -> None:
    body = long_question(max_tokens=2400, **fields)
    whole = bytearray()
    resumed: dict[int, bytes] = {}
    threads: list[threading.Thread] = []

    def resume(cursor: bytes, offset: int) -> None:
        with server.client() as other:
            resumed[offset] = read_bytes(other, ALL_EVENTS, Last_Event_ID=cursor.decode())

    with http.stream("POST", "/v1/chat/completions", json=body) as response:
        for piece in response.iter_bytes():
            whole += piece
            at_event_end = whole.endswith(b"\n\n")
            if at_event_end and len(threads) < 12 and b"[DONE]" not in whole:
                cursor = bytes(whole).rsplit(b"id: ", 1)[1].split(b"\n")[0]
                thread = threading.Thread(target=resume, args=(cursor, len(whole)))
                thread.start()
                threads.append(thread)
    for thread in threads:
        thread.join(60)
    assert len(resumed) == 12
    for offset, tail in resumed.items():
        assert tail == bytes(whole[offset:])


def test_the_same_request_under_the_same_session_id_attaches_and_runs_once(
    server: Stack, http: httpx.Client, session_id: str
) -> None:
    body = long_question(session_id=session_id, max_tokens=400)
    with http.stream("POST", "/v1/chat/completions", json=body) as first:
        stream = events_of(first)
        seen = [next(stream) for _ in range(3)]
        with server.client() as other:
            attached = read_stream(other, body)
        seen += stream
    assert [event.data for event in attached] == [event.data for event in seen]
    again = http.post("/v1/chat/completions", json=body | WHOLE).json()
    assert again["choices"][0]["message"]["content"] == text_of(seen)
    assert server.query("SELECT attempt FROM sessions_app_chatsession WHERE id = ?", session_id) == [(1,)]


def test_another_request_under_the_same_session_id_is_a_conflict(http: httpx.Client, session_id: str) -> None:
    read_stream(http, QUESTION | {"session_id": session_id, "max_tokens": 3})
    refused = http.post("/v1/chat/completions", json=QUESTION | {"session_id": session_id, "max_tokens": 4})
    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "session_conflict"


@pytest.mark.parametrize("cursor", ["nonsense", "a:b", "a:-1", ":3", "a:1:2x", "a:99999999999", "a: 1"])
def test_a_malformed_cursor_is_refused(http: httpx.Client, cursor: str) -> None:
    refused = http.post("/v1/chat/completions", json={"stream": True}, headers={"Last-Event-ID": cursor})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "malformed_cursor"


def test_a_cursor_ahead_of_the_stream_is_refused(http: httpx.Client) -> None:
    session_id, _, _ = finished_session(http)
    refused = http.post("/v1/chat/completions", json={"stream": True}, headers={"Last-Event-ID": f"{session_id}:99999"})
    assert refused.status_code == 400


def test_a_cursor_of_an_unknown_session_is_not_found(http: httpx.Client) -> None:
    refused = http.post("/v1/chat/completions", json={"stream": True}, headers={"Last-Event-ID": "sess_none:0"})
    assert refused.status_code == 404
    assert refused.json()["error"]["code"] == "session_not_found"


def test_the_header_wins_over_the_query(http: httpx.Client) -> None:
    session_id, events, _ = finished_session(http)
    resumed = http.post(
        f"/v1/chat/completions?last_event_id={session_id}:0",
        json={"stream": True},
        headers={"Last-Event-ID": f"{session_id}:1"},
    )
    assert resumed.content == b"".join(events[2:])
    by_query = http.post(f"/v1/chat/completions?last_event_id={session_id}:0", json={"stream": True})
    assert by_query.content == b"".join(events[1:])


def test_the_events_address_serves_the_same_stream_to_an_eventsource(http: httpx.Client) -> None:
    session_id, events, whole = finished_session(http)
    address = f"/v1/sessions/{session_id}/events"
    assert http.get(address).content == whole
    assert http.get(address, headers={"Last-Event-ID": f"{session_id}:1"}).content == b"".join(events[2:])
    last = events[-1].split(b"id: ")[1].split(b"\n")[0].decode()
    assert http.get(address, headers={"Last-Event-ID": last}).status_code == 204
    assert http.get("/v1/sessions/none/events").status_code == 404


def test_an_expired_stream_is_gone_and_is_not_generated_again(start_embedded: Callable[..., EmbeddedStack]) -> None:
    server = start_embedded(SESSIONS_TTL_SECONDS=1)
    with server.client() as http:
        body = QUESTION | {"session_id": "expiring", "max_tokens": 3}
        read_stream(http, body)
        wait_until_expired(server, "expiring")
        for refused in (
            http.post("/v1/chat/completions", json={"stream": True}, headers={"Last-Event-ID": "expiring:0"}),
            http.post("/v1/chat/completions", json=body),
            http.get("/v1/sessions/expiring/events"),
        ):
            assert refused.status_code == 410
            assert refused.json()["error"]["code"] == "session_expired"
    assert server.query("SELECT state, attempt FROM sessions_app_chatsession") == [("completed", 1)]
    assert server.query("SELECT count(*) FROM sessions_app_chunk") == [(0,)]


def test_without_persistence_chunks_go_when_the_last_listener_has_left(
    start_embedded: Callable[..., EmbeddedStack],
) -> None:
    server = start_embedded(PERSIST_SESSIONS=0, HUB_PRESENCE_SECONDS="0.2", HUB_POLL_SECONDS="0.1")
    with server.client() as http:
        events = read_stream(http, QUESTION | {"session_id": "fleeting"})
        assert events[-1].data == "[DONE]"
        wait_until_expired(server, "fleeting")
    assert server.query("SELECT count(*) FROM sessions_app_chunk") == [(0,)]
    assert server.query("SELECT completion_tokens > 0 FROM sessions_app_chatsession") == [(1,)]


def wait_until_expired(server: Stack, session_id: str) -> None:
    wait_for(
        lambda: (
            server.query("SELECT 1 FROM sessions_app_chatsession WHERE id = ? AND expired_at IS NOT NULL", session_id)
            and server.query("SELECT count(*) FROM sessions_app_chunk WHERE session_id = ?", session_id) == [(0,)]
        )
    )
