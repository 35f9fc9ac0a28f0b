"""Many sessions and many listeners of one caller."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks.loop.bodies import KTP, MULTIPART, Pieces, multipart, part, request
from benchmarks.loop.hostile import EITHER, LEFT, Hostile
from benchmarks.loop.rates import FED_NAME
from tests.media_samples import image_bytes

LONG_ANSWER: dict[str, Any] = {"stream": True, "max_tokens": 3000, "ignore_eos": True}


def _chat(content: Any, **fields: Any) -> Pieces:
    body = {"messages": [{"role": "user", "content": content}], **fields}
    return request([json.dumps(body).encode()])


def _about_picture() -> list[dict[str, Any]]:
    picture = base64.b64encode(image_bytes((640, 480), color="navy", format="JPEG")).decode()
    url = {"url": f"data:image/jpeg;base64,{picture}"}
    return [{"type": "image_url", "image_url": url}, {"type": "text", "text": "Apa ini?"}]


def _attach(method: str) -> Pieces:
    return request([], method, f"/v1/sessions/{FED_NAME}-0/events", kind="")


def crowds() -> Iterator[Hostile]:
    """A caller that opens more than its share may get a 429: what counts is that no other caller waits."""
    yield Hostile(
        "streams-abandoned",
        "150 streams of 3,000 tokens, whose clients leave at once",
        partial(_chat, "Ceritakan sesuatu.", **LONG_ANSWER),
        EITHER,
        connections=150,
        spoils=True,
        neighbours_after=3.0,
    )
    yield Hostile(
        "streams-read",
        "150 streams of 3,000 tokens, whose clients read on",
        partial(_chat, "Ceritakan sesuatu.", **LONG_ANSWER),
        EITHER,
        connections=150,
        stays=15.0,
        spoils=True,
        neighbours_after=3.0,
    )
    yield Hostile(
        "sessions-500",
        "500 streams of 500 tokens at once",
        partial(_chat, "Ceritakan sesuatu.", **LONG_ANSWER | {"max_tokens": 500}),
        EITHER,
        connections=500,
        stays=10.0,
        spoils=True,
        neighbours_after=3.0,
    )
    yield Hostile(
        "choices-50x8",
        "50 streams of 8 answers each",
        partial(_chat, "Ceritakan sesuatu.", **LONG_ANSWER | {"max_tokens": 500, "n": 8}),
        EITHER,
        connections=50,
        stays=10.0,
        spoils=True,
        neighbours_after=2.0,
    )
    yield Hostile(
        "pictures-100",
        "100 streams about a picture, whose clients leave at once",
        lambda: _chat(_about_picture(), **LONG_ANSWER),
        EITHER,
        connections=100,
        spoils=True,
        neighbours_after=3.0,
    )
    card = image_bytes((640, 400), color="teal")
    yield Hostile(
        "cards-100",
        "100 cards at once",
        lambda: request(multipart(part([card])), path=KTP, kind=MULTIPART),
        EITHER | {LEFT},
        connections=100,
        patience=10.0,
        spoils=True,
        neighbours_after=3.0,
    )
    yield Hostile(
        "listeners-300",
        "300 listeners on one running session",
        partial(_attach, "GET"),
        EITHER,
        connections=300,
        stays=8.0,
        neighbours_after=2.0,
    )
    yield Hostile(
        "listeners-come-and-go",
        "20 connections that each ask 50 times for the head of its stream",
        lambda: list(_attach("HEAD")) * 50,
        EITHER,
        connections=20,
        answers=50,
    )
