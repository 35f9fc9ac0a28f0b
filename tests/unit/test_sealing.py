"""What goes through Redis opens only where it was meant to go, and only with this SECRET_KEY."""

from __future__ import annotations

import logging
import os
from types import SimpleNamespace

import pytest
from django.conf import settings

from sessions_app import sealing
from sessions_app.sealing import SEAL_BYTES, DroppedMessages, NotSealed, seal, unseal

SECRET = b"rahasia sekali"


@pytest.mark.parametrize("content", [b"", SECRET, b"\x00\xff" * 100_000])
def test_what_is_sealed_for_a_place_opens_there(content: bytes) -> None:
    message = seal(content, "queue")
    assert unseal(message, "queue") == content
    assert len(message) == len(content) + SEAL_BYTES


def test_nothing_of_the_content_can_be_seen_and_no_two_messages_are_alike() -> None:
    messages = {seal(SECRET, "queue") for _ in range(100)}
    assert len(messages) == 100
    assert not any(SECRET[:4] in message for message in messages)


@pytest.mark.parametrize("size", [0, 1, SEAL_BYTES - 1, SEAL_BYTES, SEAL_BYTES + 1, 1000])
def test_what_was_never_sealed_does_not_open(size: int) -> None:
    with pytest.raises(NotSealed):
        unseal(os.urandom(size), "queue")


def test_a_changed_message_does_not_open() -> None:
    message = seal(SECRET, "queue")
    for place in range(len(message)):
        changed = message[:place] + bytes([message[place] ^ 1]) + message[place + 1 :]
        with pytest.raises(NotSealed):
            unseal(changed, "queue")
    for cut in (message[:-1], message + b"\x00", message[1:]):
        with pytest.raises(NotSealed):
            unseal(cut, "queue")


def test_a_message_for_one_place_does_not_open_in_another() -> None:
    with pytest.raises(NotSealed):
        unseal(seal(SECRET, "sambung:chunks:0"), "sambung:chunks:1")


def test_another_secret_key_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    message = seal(SECRET, "queue")
    monkeypatch.setattr(settings, "SECRET_KEY", "another" * 10)
    with pytest.raises(NotSealed):
        unseal(message, "queue")


def test_dropped_messages_are_logged_at_once_and_then_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1000.0]
    monkeypatch.setattr(sealing, "time", SimpleNamespace(monotonic=lambda: now[0]))
    dropped = DroppedMessages("queue")
    with caplog.at_level(logging.WARNING):
        for _ in range(500):
            dropped.add(8)
        now[0] += sealing.LOG_SECONDS
        dropped.add(10**9)
    first, second = caplog.messages
    assert "queue: 1 message(s)" in first
    assert "queue: 500 message(s), the last of 1000000000 bytes" in second
    assert all(len(line) < 300 for line in caplog.messages)
