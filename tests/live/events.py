"""Reading a stream event by event, with an SSE decoder that is not ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
from httpx_sse import EventSource, ServerSentEvent

QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": "Apa kabar?"}], "max_tokens": 40, "stream": True}

#: how a stream is shown that has an event for every chunk
ALL_EVENTS: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
WHOLE: dict[str, Any] = {"stream": False, "stream_options": None}


def long_question(**fields: Any) -> dict[str, Any]:
    """A request whose answer takes seconds, and is read to its end."""
    return QUESTION | {"max_tokens": 1500, "ignore_eos": True} | ALL_EVENTS | fields


def endless_question(**fields: Any) -> dict[str, Any]:
    """A request whose answer is still being written whenever a test looks: it is cancelled, killed or left."""
    return long_question(max_tokens=3900, n=4) | fields


def events_of(response: httpx.Response) -> Iterator[ServerSentEvent]:
    return EventSource(response).iter_sse()


def read_stream(http: httpx.Client, body: dict[str, Any], **headers: str) -> list[ServerSentEvent]:
    """The whole stream."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with http.stream("POST", "/v1/chat/completions", json=body, headers=named) as response:
        assert response.status_code == 200, response.read()
        return list(events_of(response))


def read_bytes(http: httpx.Client, body: dict[str, Any], **headers: str) -> bytes:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = http.post("/v1/chat/completions", json=body, headers=named)
    assert response.status_code in (200, 204), response.text
    return response.content


def text_of(events: list[ServerSentEvent]) -> str:
    """The content of a stream, joined."""
    return "".join(
        choice["delta"].get("content") or ""
        for event in events
        if event.data != "[DONE]"
        for choice in json.loads(event.data)["choices"]
    )


def indexes_of(events: list[ServerSentEvent]) -> list[int]:
    return [int(event.id.rpartition(":")[2]) for event in events]
