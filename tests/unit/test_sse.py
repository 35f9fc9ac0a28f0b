"""The wire form of an event, read back by a decoder that is not ours, and the cursor that names one."""

from __future__ import annotations

import json

import httpx
import pytest
from httpx_sse import EventSource, ServerSentEvent

from sessions_app import sse
from sessions_app.sse import Cursor, MalformedCursor, encode_event, parse_cursor

NASTY_TEXTS = [
    "",
    " leading and trailing ",
    "data: not a field\n\nid: 7\nevent: none",
    "line\nbreaks\r\nof\rall kinds",
    "\x00\x0b\x0c\x1c\x1d\x1e\x7f\x85",
    "\u2028 and \u2029",
    "selamat pagi 👋🏽 – “Jakarta”",
    ": a comment",
    "[DONE]",
    'quotes " and \\ backslashes',
    "\ufeff byte order mark",
]


def decode(stream: bytes) -> list[ServerSentEvent]:
    response = httpx.Response(200, headers={"Content-Type": sse.CONTENT_TYPE}, content=stream)
    return list(EventSource(response).iter_sse())


@pytest.mark.parametrize("text", NASTY_TEXTS)
def test_any_text_comes_back_as_it_was(text: str) -> None:
    data = json.dumps({"text": text}, ensure_ascii=False)
    [event] = decode(encode_event(data, session_id="s", index=3))
    assert json.loads(event.data) == {"text": text}
    assert (event.id, event.event) == ("s:3", "message")


def test_events_in_one_write_come_back_one_by_one() -> None:
    stream = b"".join(encode_event(str(index), session_id="sess_a-b.c", index=index) for index in range(50))
    events = decode(stream)
    assert [event.data for event in events] == [str(index) for index in range(50)]
    assert [event.id for event in events] == [f"sess_a-b.c:{index}" for index in range(50)]


def test_only_the_first_event_says_how_soon_to_come_back() -> None:
    events = decode(b"".join(encode_event("x", session_id="s", index=index) for index in range(3)))
    assert [event.retry for event in events] == [sse.RETRY_MILLISECONDS, None, None]


def test_retry_never_stands_alone() -> None:
    block = encode_event("x", session_id="s", index=0).decode()
    assert block.count("\n\n") == 1
    assert block.endswith("\n\n")


def test_a_keepalive_is_a_comment_that_ends_no_event() -> None:
    assert sse.KEEPALIVE.startswith(b":")
    assert sse.KEEPALIVE.count(b"\n") == 1
    first, second = (encode_event(data, session_id="s", index=n) for n, data in enumerate("ab"))
    assert [event.data for event in decode(first + sse.KEEPALIVE + sse.KEEPALIVE + second)] == ["a", "b"]


@pytest.mark.parametrize("cursor", [Cursor("s", 0), Cursor("sess_A-b.9", 12), Cursor("x" * 64, sse.MAX_INDEX)])
def test_the_id_of_an_event_is_a_cursor(cursor: Cursor) -> None:
    [event] = decode(encode_event("x", session_id=cursor.session_id, index=cursor.index))
    assert parse_cursor(event.id) == cursor


@pytest.mark.parametrize(
    "value",
    [
        "", ":", "s", "s:", ":1", "s:-1", "s:+1", "s:01", "s:1.0", "s:1e3", "s: 1", " s:1", "s:1 ", "s:1\n", "s\n:1",
        "s:1:2", "s:٣", "s:²", "s:2147483648", "s:99999999999", "é:1", "a/b:1", "a b:1", "\0:1", "x" * 65 + ":1",
        ".:1", "..:1", "-a:1",
    ],
)  # fmt: skip
def test_anything_else_is_a_malformed_cursor(value: str) -> None:
    with pytest.raises(MalformedCursor):
        parse_cursor(value)
