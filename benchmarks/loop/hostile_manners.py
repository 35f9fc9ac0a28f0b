"""Odd heads, and bodies that come in an odd way."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.loop.bodies import CHAT, KTP, MB, MULTIPART, chat_with, filled, listed, part, request, times
from benchmarks.loop.hostile import ANSWERED, EITHER, LEFT, REFUSED, REFUSED_MB, Hostile


def heads() -> Iterator[Hostile]:
    body = chat_with("x", [b"0"])
    yield Hostile("query-60kb", "a query string of 60 kB", lambda: request(body, path=f"{CHAT}?a={'a' * 60_000}"))
    yield Hostile("query-1mb", "a query string of 1 MB", lambda: request(body, path=f"{CHAT}?{'a=b&' * 250_000}"))
    yield Hostile(
        "query-fields", "4,000 fields in a query string", lambda: request(body, path=f"{CHAT}?{'a=b&' * 4000}"), EITHER
    )
    yield Hostile("header-60kb", "a header of 60 kB", lambda: request(body, headers=["X-A: " + "a" * 60_000]))
    yield Hostile("headers-10k", "10,000 headers", lambda: request(body, headers=[f"X-{n}: a" for n in range(10_000)]))
    yield Hostile(
        "last-event-id-60kb",
        "a Last-Event-ID of 60 kB",
        lambda: request(body, headers=["Last-Event-ID: " + "a" * 60_000 + ":1"]),
    )
    yield Hostile(
        "last-event-id-15kb",
        "a Last-Event-ID of 15 kB",
        lambda: request(body, headers=["Last-Event-ID: s:" + "9" * 15_000]),
    )
    yield Hostile(
        "cookies",
        "3,000 cookies, to a page",
        lambda: request([], "GET", "/ocr/", headers=["Cookie: " + ";".join(f"c{n % 9}=" for n in range(3000))]),
        EITHER | {302},
    )
    yield Hostile("path-15kb", "a path of 15 kB", lambda: request([], "GET", "/v1/models/" + "%2F" * 5000))


def manners() -> Iterator[Hostile]:
    """Requests whose bodies come in an odd way."""
    yield Hostile(
        "slow-bodies",
        "8 bodies that come a byte a second",
        lambda: [*request([], declared=1000), *(piece for _ in range(10) for piece in (b"x", 1.0))],
        REFUSED | {LEFT},
        connections=8,
        patience=1.0,
    )
    yield Hostile(
        "half-body",
        "a body of 60 MB that stops half-way",
        lambda: request(filled(b" ", 30 * MB), declared=60 * MB),
        REFUSED | {LEFT},
        REFUSED_MB,
        patience=3.0,
    )
    yield Hostile(
        "half-bodies",
        "20 uploads of 10 MB that stop half-way",
        lambda: request(part(filled(b"\x00\x01\xfe", 5 * MB)), path=KTP, kind=MULTIPART, declared=10 * MB),
        REFUSED | {LEFT},
        connections=20,
        patience=3.0,
    )
    yield Hostile(
        "pipelined-gets",
        "500 requests for the models on one connection",
        lambda: times(b"".join(request([], "GET", "/v1/models")), 500),
        ANSWERED,
        answers=500,
    )
    yield Hostile(
        "pipelined-posts",
        "20 bodies of 1 MB on one connection",
        lambda: [*request([b"[", *filled(b"1,", MB), b"1]"])] * 20,
        REFUSED,
        answers=20,
    )
    yield Hostile(
        "websocket-body",
        "an upgrade to a WebSocket with a body of 10 MB",
        lambda: request(
            filled(b"\x82\x05Hello", 10 * MB),
            "GET",
            "/ws/admin/sessions/x/",
            kind="",
            headers=[
                "Upgrade: websocket",
                "Connection: Upgrade",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                "Origin: http://localhost",
            ],
        ),
        REFUSED | {LEFT, 101},
        REFUSED_MB,
        patience=3.0,
    )
    yield Hostile(
        "many-small",
        "200 chats at once whose messages are 5,000 numbers",
        lambda: request([b'{"messages":', *listed(b"1", 5000), b"}"]),
        REFUSED,
        connections=200,
    )
