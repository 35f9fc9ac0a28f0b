"""The hub skips the first read of a session only while it knows that nothing but chunk 0 can be in the log."""

from __future__ import annotations

import datetime

import pytest
from django.utils import timezone

from sessions_app import recent_wakeups
from sessions_app.models import ChatSession
from sessions_app.recent_wakeups import RecentWakeups


def session(session_id: str = "s", *, next_index: int = 1, seconds_from_now: float = 1.0) -> ChatSession:
    created_at = timezone.now() + datetime.timedelta(seconds=seconds_from_now)
    return ChatSession(id=session_id, next_index=next_index, created_at=created_at)


@pytest.fixture
def recent() -> RecentWakeups:
    recent = RecentWakeups()
    recent.subscribed()
    return recent


def test_a_session_that_was_created_since_and_had_no_wake_up_has_only_its_first_chunk(recent: RecentWakeups) -> None:
    assert recent.has_only_first_chunk(session())


def test_nothing_is_known_before_the_subscription() -> None:
    assert not RecentWakeups().has_only_first_chunk(session())


def test_nothing_is_known_of_a_session_from_before_the_subscription(recent: RecentWakeups) -> None:
    assert not recent.has_only_first_chunk(session(seconds_from_now=-60))


def test_after_a_new_subscription_nothing_is_known_of_a_session_from_before(recent: RecentWakeups) -> None:
    opened = session(seconds_from_now=0)
    recent.subscribed()
    assert not recent.has_only_first_chunk(opened)


def test_nothing_is_known_once_the_hub_has_unsubscribed(recent: RecentWakeups) -> None:
    recent.unsubscribed()
    assert not recent.has_only_first_chunk(session())


def test_a_wake_up_says_that_there_is_more(recent: RecentWakeups) -> None:
    recent.note(["other"])
    assert recent.has_only_first_chunk(session("s"))
    recent.note(["s"])
    assert not recent.has_only_first_chunk(session("s"))


def test_a_row_with_more_chunks_says_so_without_a_wake_up(recent: RecentWakeups) -> None:
    assert not recent.has_only_first_chunk(session(next_index=2))


def test_of_a_session_that_was_forgotten_nothing_is_known(
    recent: RecentWakeups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent_wakeups, "REMEMBERED_SESSIONS", 3)
    first = session("first", seconds_from_now=0)
    for session_id in ("first", "a", "b"):
        recent.note([session_id])
    before_the_loss = session("quiet")
    assert not recent.has_only_first_chunk(first)
    recent.note(["c"])
    assert not recent.has_only_first_chunk(first)
    # The forgotten one had its wake-up before this one was created.
    assert recent.has_only_first_chunk(before_the_loss)


def test_a_session_that_is_notified_again_is_not_the_next_to_be_forgotten(
    recent: RecentWakeups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent_wakeups, "REMEMBERED_SESSIONS", 2)
    again = session("again")
    for session_id in ("again", "b", "again", "c"):
        recent.note([session_id])
    assert not recent.has_only_first_chunk(again)
    assert set(recent._last) == {"again", "c"}
