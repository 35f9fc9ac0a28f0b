"""The ``Prefer`` header, as RFC 7240 has it."""

from __future__ import annotations

import pytest

from ocr.api import prefer
from ocr.api.prefer import MAX_CHARS, Preferences, read_preferences


@pytest.mark.parametrize(
    ("header", "preferences"),
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
        ('wait="1, respond-async', Preferences()),
        ("a b, (, respond-async", Preferences(respond_async=True)),
        ('x="a\\", wait=3", respond-async', Preferences(respond_async=True)),
    ],
)
def test_known_preferences_are_taken_and_others_ignored(header: str | None, preferences: Preferences) -> None:
    assert read_preferences(header) == preferences


def test_a_long_header_is_ignored() -> None:
    preferences = Preferences(respond_async=True)
    assert read_preferences("respond-async".ljust(MAX_CHARS)) == preferences
    assert read_preferences("respond-async".ljust(MAX_CHARS + 1)) == Preferences()


@pytest.mark.parametrize("header", ["a" * 3_000_000 + "(", "a" + " " * 3_000_000 + "(", '"' + "\\" * 3_000_000])
def test_reading_a_header_takes_work_in_proportion_to_its_length(header: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # With work that grows with the square of the length, this would take days.
    monkeypatch.setattr(prefer, "MAX_CHARS", len(header))
    assert read_preferences(header) == Preferences()
