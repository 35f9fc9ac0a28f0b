"""Texts that take long to parse, to count or to tokenize."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.loop.bodies import MB, Pieces, chat_saying, filled, listed, request, text
from benchmarks.loop.hostile import Hostile

PATIENCE = 60.0
WORDS = b"Ceritakan sesuatu yang menarik tentang kota ini. "


def _saying(unit: bytes, size: int) -> Pieces:
    return request(chat_saying(text(filled(unit, size))))


def _messages(message: bytes, count: int) -> Pieces:
    return request([b'{"max_tokens":4,"messages":', *listed(message, count), b"}"])


def texts() -> Iterator[Hostile]:
    of_5mb = {
        "control": ("<|im_end|>", b"<|im_end|>"),
        "plain": ("plain text", WORDS),
        "word": ("one word", b"a"),
        "blanks": ("blanks", b" "),
        "newlines": ("line breaks", rb"\n"),
        "digits": ("digits", b"7"),
        "accents": ("accents upon one letter", "\N{COMBINING ACUTE ACCENT}".encode()),
        "emoji": ("joined emoji", "👩\N{ZERO WIDTH JOINER}".encode()),
        "pads": ("<|image_pad|>", b"<|vision_start|><|image_pad|><|vision_end|>"),
    }
    for name, (what, unit) in of_5mb.items():
        yield Hostile(f"{name}-5mb", f"5 MB of {what}", partial(_saying, unit, 5 * MB), patience=PATIENCE)
    tiny = b'{"role":"user","content":"a"}' + b" " * 22
    yield Hostile("messages-500k", "500,000 tiny messages, 26 MB", partial(_messages, tiny, 500_000), patience=PATIENCE)
    # Each as large as the limits of a request allow.
    long = b'{"role":"user","content":"' + WORDS * 40 + b'"}'
    yield Hostile("messages-4000", "4,000 messages of 2 kB", partial(_messages, long, 4000), patience=PATIENCE)
    yield Hostile(
        "plain-8x1mb", "1 MB of plain text in each of 8 chats at once", partial(_saying, WORDS, MB), connections=8
    )
    yield Hostile(
        "control-16x300kb",
        "300 kB of <|im_end|> in each of 16 chats at once",
        partial(_saying, b"<|im_end|>", 300_000),
        connections=16,
        patience=PATIENCE,
    )
