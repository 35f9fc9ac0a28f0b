"""API keys that a person made up are told from those that a computer drew."""

from __future__ import annotations

import base64
import random
import uuid

import pytest

from inference.api.key_strength import weakness


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("", "0 characters"),
        ("pUm9dX2rT7vLq4Zs8Wn", "19 characters"),
        ("aaaaaaaaaaaaaaaaaaaaaaaa", "1 different"),
        ("0101010101011010101010101", "2 different"),
        ("hunter2hunter2hunter2", "repeats"),
        ("abcdefghijklmnopqrstuvwxyz", "neighbouring"),
        ("12345678901234567890", "repeats"),
        ("98765432109876543210x", "neighbouring"),
        ("change-me-change-me-please", "common words"),
        ("sk-your-api-key-here-1234", "common words"),
        ("this-is-a-very-long-secret-password", "common words"),
        ("sambung-admin-password-2026", "common words"),
        ("qwertyuiop-asdfghjkl-123", "common words"),
        ("kunci-rahasia-contoh-api", "common words"),
    ],
)
def test_what_could_be_guessed_is_found_with_the_reason(key: str, words: str) -> None:
    assert words in (weakness(key) or "")


def test_what_was_drawn_passes() -> None:
    draw = random.Random(7)
    for _ in range(3000):
        data = draw.randbytes(24)
        digits = "".join(draw.choice("0123456789") for _ in range(24))
        for key in (data.hex(), base64.urlsafe_b64encode(data).decode(), f"sk-{data.hex()}", digits):
            assert weakness(key) is None, key
        assert weakness(str(uuid.UUID(bytes=data[:16]))) is None


def test_words_that_a_person_chose_at_random_pass() -> None:
    assert weakness("correct-horse-battery-staple") is None
