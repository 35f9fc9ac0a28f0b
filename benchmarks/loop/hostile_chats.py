"""Chats that are hard to parse, to check or to tokenize."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from functools import partial

from benchmarks.loop.bodies import MB, chat_saying, chat_with, filled, listed, numbered, request, text, times
from benchmarks.loop.hostile import EITHER, REFUSED, REFUSED_MB, Hostile, chat


def _messages(messages: Sequence[bytes]) -> list[bytes]:
    return [b'{"max_tokens":4,"messages":', *messages, b"}"]


def lists() -> Iterator[Hostile]:
    for thousands in (100, 300):
        yield chat(
            f"numbers-{thousands}k",
            f"messages: {thousands},000 numbers",
            partial(_messages, listed(b"1", thousands * 1000)),
        )
    message = b'{"role":"user","content":"Halo"}'
    yield chat("messages-50k", "50,000 messages", partial(_messages, listed(message, 50_000)))
    tiny = b'{"role":"user","content":"a"}' + b" " * 22
    yield chat("messages-500k", "500,000 tiny messages, 26 MB", partial(_messages, listed(tiny, 500_000)))
    yield chat(
        "parts-text-100k",
        "one message of 100,000 text parts",
        lambda: chat_saying(listed(b'{"type":"text","text":"a"}', 100_000)),
    )
    picture = b'{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}'
    yield chat("parts-image-10k", "one message of 10,000 images", lambda: chat_saying(listed(picture, 10_000)))
    yield chat("parts-wrong-1m", "a content of a million numbers", lambda: chat_saying(listed(b"1", MB)))


def prompts() -> Iterator[Hostile]:
    yield chat(
        "prompt-1mb", "a prompt of 1 MB for 4,096 tokens", lambda: chat_saying(text(filled(b"Ceritakan sesuatu. ", MB)))
    )
    yield chat("prompt-letters-5mb", "a prompt of one word of 5 MB", lambda: chat_saying(text(filled(b"a", 5 * MB))))
    yield chat("control-5mb", "5 MB of <|im_end|>", lambda: chat_saying(text(filled(b"<|im_end|>", 5 * MB))))
    yield chat(
        "prompt-unicode-60mb",
        "60 MB of text that is not ASCII",
        lambda: chat_saying(text(filled("é😀".encode(), 60 * MB))),
    )
    yield chat("prompt-digits-1mb", "1 MB of digits and blanks", lambda: chat_saying(text(filled(b"1 ", MB))))


def _encoded(codec: str) -> list[bytes]:
    return [b"".join(chat_with("x", text(filled(b"a", 5 * MB)))).decode().encode(codec)]


def json() -> Iterator[Hostile]:
    """Bodies that are hard to parse."""
    yield chat("brackets-3mb", "an unknown field of [[],[],…], 3 MB", lambda: chat_with("x", listed(b"[]", MB)), EITHER)
    yield chat("brackets-60mb", "the same, 60 MB", lambda: chat_with("x", listed(b"[]", 20 * MB)), EITHER)
    yield chat("deep-list", "a million opened lists", lambda: filled(b"[", MB))
    yield chat(
        "deep-object", "200,000 objects in each other", lambda: [*filled(b'{"a":', MB), b"1", *filled(b"}", MB // 5)]
    )
    yield chat(
        "deep-valid",
        "lists in each other, as deep as is allowed, 100,000 times",
        lambda: chat_with("x", listed(b"[" * 90 + b"]" * 90, 100_000)),
        EITHER,
    )
    for name, unit in (("u", b"\\u0041"), ("n", b"\\n"), ("surrogate", b"\\ud83d\\ude00")):
        yield chat(
            f"escapes-{name}",
            f"20 MB of {unit.decode()} in an unknown field",
            partial(chat_with, "x", text(filled(unit, 20 * MB))),
            EITHER,
        )
    yield chat(
        "keys-1m",
        "an unknown object of a million keys",
        lambda: chat_with("x", [b"{", *numbered(b'"k%d":0', MB), b"}"]),
        EITHER,
    )
    yield chat(
        "fields-1m",
        "a million unknown fields",
        lambda: [b'{"messages":[{"role":"user","content":"Halo"}],"max_tokens":4,', *numbered(b'"k%d":0', MB), b"}"],
        EITHER,
    )
    yield chat(
        "keys-long",
        "1,000 keys of 20 kB",
        lambda: chat_with("x", [b"{", *numbered(b'"' + b"k" * 20_000 + b'%d":0', 1000), b"}"]),
        EITHER,
    )
    yield chat(
        "keys-double",
        "one key a million times",
        lambda: [b'{"messages":[{"role":"user","content":"Halo"}],"max_tokens":4', *times(b',"x":[]', MB), b"}"],
        EITHER,
    )
    yield chat("digits-1m", "a number of a million digits", lambda: chat_with("x", filled(b"9", MB)), EITHER)
    yield chat(
        "digits-4300",
        "10 MB of numbers with 4,300 digits each",
        lambda: chat_with("x", listed(b"9" * 4300, 2300)),
        EITHER,
    )
    yield chat(
        "floats-1m", "a million fractions", lambda: chat_with("x", listed(b"1.2345678901234567e-300", MB)), EITHER
    )
    yield chat("strings-5m", "five million texts", lambda: chat_with("x", listed(b'"a"', 5 * MB)), EITHER)
    yield chat(
        "blanks-60mb",
        "60 MB of blanks before the body",
        lambda: [*filled(b" ", 60 * MB), *chat_with("x", [b"0"])],
        EITHER,
    )
    yield chat(
        "bom",
        "20 MB behind a byte order mark",
        lambda: [b"\xef\xbb\xbf", *chat_with("x", text(filled(b"a", 20 * MB)))],
        EITHER,
    )
    for codec in ("utf-16", "utf-32"):
        yield chat(
            codec,
            f"5 MB of letters in {codec}",
            partial(_encoded, codec),
            EITHER,
        )
    yield Hostile(
        "gzip-60mb",
        "60 MB of JSON as 60 kB of gzip",
        lambda: request(
            [gzip.compress(b"".join(chat_with("x", text(filled(b"a", 60 * MB)))), 6)],
            headers=["Content-Encoding: gzip"],
        ),
        REFUSED,
        REFUSED_MB,
    )
    yield chat(
        "broken-at-the-end", "60 MB of JSON without its last brace", lambda: chat_with("x", listed(b"[]", 20 * MB))[:-1]
    )


def fields() -> Iterator[Hostile]:
    """Known fields with more in them than anyone needs."""
    megabytes = text(filled(b"a", 3 * MB))
    schema = b'{"type":"object","properties":{"a":{"type":"string"}}}'
    fields: dict[str, tuple[str, list[bytes]]] = {
        "stop": ("100,000 stop strings", listed(b'"END"', 100_000)),
        "stop_token_ids": ("a million stop tokens", listed(b"7", MB)),
        "logit_bias": ("a million biases", [b"{", *numbered(b'"%d":1', MB), b"}"]),
        "tools": (
            "tools of 3 MB",
            listed(b'{"type":"function","function":{"name":"f","parameters":' + schema + b"}}", 30_000),
        ),
        "metadata": ("metadata of 3 MB", [b"{", *numbered(b'"key%d":"value"', 150_000), b"}"]),
        "session_id": ("a session id of 1 MB", text(filled(b"a", MB))),
        "model": ("a model name of 3 MB", megabytes),
        "user": ("a user of 3 MB", megabytes),
        "response_format": ("a schema of 3 MB", [b'{"type":"json_schema","x":', *listed(schema, 50_000), b"}"]),
        "stream_options": ("stream options of 3 MB", [b"{", *numbered(b'"k%d":true', 250_000), b"}"]),
        "temperature": ("a temperature of a million digits", [b"0.", *filled(b"1", MB)]),
        "seed": ("a seed of 4,000 digits", filled(b"9", 4000)),
    }
    for name, (what, value) in fields.items():
        expect = EITHER if name in ("metadata", "user", "temperature") else REFUSED
        yield chat(f"field-{name}", what, partial(chat_with, name, value), expect)
    yield chat("field-role", "a role of 3 MB", lambda: [b'{"messages":[{"content":"Halo","role":', *megabytes, b"}]}"])
    yield chat(
        "field-of-a-part",
        "a text part with a million members",
        lambda: chat_saying([b'[{"type":"text","text":"Halo",', *numbered(b'"k%d":0', MB), b"}]"]),
        EITHER,
    )
