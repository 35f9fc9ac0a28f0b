"""Tokens so far, and tokens per second now, of sessions that run."""

from __future__ import annotations

import datetime

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from sessions_app import token_rates
from sessions_app.models import ChatSession, Chunk
from sessions_app.store.appending import Closing
from sessions_app.token_rates import tokens_per_second
from tests.db.session_states import claimed, completed, expire_lease, open_session, say, text

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now)


def running(tokens: int, seconds_ago: float = 0.0) -> ChatSession:
    """A session whose tokens were committed so long ago."""
    session = claimed(open_session())
    say(session, *[text("a")] * tokens)
    Chunk.objects.filter(session=session).update(created_at=timezone.now() - datetime.timedelta(seconds=seconds_ago))
    return session


def tokens_so_far(session: ChatSession) -> int | None:
    session.refresh_from_db()
    return session.completion_tokens


def test_each_append_adds_its_tokens_to_the_session() -> None:
    session = claimed(open_session())
    assert tokens_so_far(session) is None
    say(session, text("a"), text("b"))
    assert tokens_so_far(session) == 2
    say(session, text("c"))
    assert tokens_so_far(session) == 3


def test_another_attempt_counts_on() -> None:
    session = claimed(open_session())
    say(session, text("a"), text("b"))
    expire_lease(session)
    say(claimed(session), text("c"))
    assert tokens_so_far(session) == 3


def test_at_the_end_the_count_is_what_the_engine_said() -> None:
    session = claimed(open_session())
    say(session, text("a"), text("b"))
    say(session, text("c"), closing=Closing(completion_tokens=3))
    assert tokens_so_far(session) == 3


def test_a_session_that_fails_keeps_the_count_of_what_it_has_said() -> None:
    session = claimed(open_session())
    say(session, text("a"), text("b"))
    say(session, text("c"), closing=Closing(error={"message": "It broke."}))
    assert tokens_so_far(session) == 3


def test_the_rate_is_the_mean_since_the_oldest_token_of_the_last_seconds() -> None:
    session = running(tokens=40, seconds_ago=4)
    assert tokens_per_second([session.pk])[session.pk] == pytest.approx(10)


def test_the_first_tokens_of_a_session_count_as_those_of_one_second() -> None:
    session = running(tokens=3)
    assert tokens_per_second([session.pk]) == {session.pk: 3.0}


def test_what_was_said_before_the_window_is_not_now() -> None:
    session = running(tokens=40, seconds_ago=token_rates.WINDOW_SECONDS + 1)
    assert tokens_per_second([session.pk]) == {}


def test_only_the_sessions_asked_for_that_run_have_a_rate() -> None:
    asked, _other = running(tokens=2), running(tokens=2)
    waiting, ended = open_session(), completed()
    assert tokens_per_second([asked.pk, waiting.pk, ended.pk]).keys() == {asked.pk}


def test_a_long_session_is_not_read_to_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_rates, "MAX_CHUNKS", 5)
    session = running(tokens=40)
    assert tokens_per_second([session.pk]) == {session.pk: 5.0}


def test_many_sessions_take_one_query() -> None:
    sessions = [running(tokens=1) for _ in range(5)]
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert len(tokens_per_second(session.pk for session in sessions)) == 5
    assert len(queries) == 1
