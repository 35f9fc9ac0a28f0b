"""The ``Prefer`` header, as RFC 7240 has it."""

from __future__ import annotations

import pytest

from ocr.api.prefer import Preferences, read_preferences


@pytest.mark.parametrize(
    ("header", "wishes"),
    [
        (None, Preferences()),
        ("", Preferences()),
        ("respond-async", Preferences(respond_async=True)),
        ("Respond-Async, wait=10", Preferences(respond_async=True, wait=10)),
        ("respond-async;x=1, WAIT = 10 ; y", Preferences(respond_async=True, wait=10)),
        ("handling=strict", Preferences(strict=True)),
        ('handling="strict", return=minimal', Preferences(strict=True)),
        ("handling=lenient, handling=strict", Preferences()),
        ("wait=-1, respond-async", Preferences(respond_async=True)),
        ("wait=99999999999999999999", Preferences()),
        ("wait=٣, respond-async", Preferences(respond_async=True)),
        ('x="respond-async, wait=3"', Preferences()),
        (",,;;==", Preferences()),
    ],
)
def test_known_preferences_are_taken_and_others_ignored(header: str | None, wishes: Preferences) -> None:
    assert read_preferences(header) == wishes
