"""Nothing that a stranger sends holds up the event loop. The full set, by the clock, is ``benchmarks.loop``."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from benchmarks.loop.bodies import KEY
from benchmarks.loop.catalogue import named
from benchmarks.loop.sender import send
from tests.live.events import QUESTION, read_stream
from tests.live.stack import API_TIMEOUT_SECONDS, EmbeddedStack, free_port
from tests.stall_watch import AVAILABLE

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="this system does not tell what its threads wait for")

HOSTILE = [
    "numbers-100k",
    "messages-50k",
    "parts-text-100k",
    "brackets-3mb",
    "fields-1m",
    "escapes-u",
    "field-logit_bias",
    "image-garbage",
    "multipart-19mb /ktp-ocr/",
    "multipart-19mb /nowhere",
    "newlines-3mb /health",
    "lines-24mb /health",
    "urlencoded-3mb /health",
    "letter-300mb-chunked",
    "no-key-60mb",
    "chunks-1m",
    "half-bodies",
    "pipelined-posts",
]
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}


class WatchedStack(EmbeddedStack):
    """A server that notes what holds up its loop."""

    def start(self) -> Self:
        self.stalls_port = free_port()
        self.env["STALLS_PORT"] = str(self.stalls_port)
        self.launch("serve", "-m", "tests.live.watched", "serve", "--port", str(self.port))
        self.wait_for_health("modelReady")
        # What is imported and opened for the first request of its kind is no stranger's doing.
        self.answer_a_chat()
        self.stalls()
        return self

    def answer_a_chat(self) -> None:
        with self.client(headers=AUTHORIZED) as http:
            assert read_stream(http, QUESTION)[-1].data == "[DONE]"

    def stalls(self) -> list[dict[str, Any]]:
        """Since it was last asked."""
        with self.client() as http:
            # Whatever the last request has left to the loop comes before this.
            assert http.get("/health").is_success
        with socket.create_connection(("127.0.0.1", self.stalls_port), API_TIMEOUT_SECONDS) as connection:
            with connection.makefile("rb") as answer:
                stalls: list[dict[str, Any]] = json.load(answer)
        return stalls


@pytest.fixture(scope="module")
def watched(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedStack]:
    stack = WatchedStack(tmp_path_factory.mktemp("watched"), tiny_model, API_KEYS=KEY)
    try:
        yield stack.start()
    finally:
        stack.stop()


def test_an_honest_chat_is_no_stall(watched: WatchedStack) -> None:
    watched.answer_a_chat()
    assert watched.stalls() == []


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_request_is_answered_and_holds_up_nobody(watched: WatchedStack, name: str) -> None:
    hostile = named(name)
    outcomes = asyncio.run(send(watched.port, hostile, list(hostile.make())))
    assert watched.stalls() == []
    assert {status for outcome in outcomes for status in outcome.statuses} <= hostile.expect
