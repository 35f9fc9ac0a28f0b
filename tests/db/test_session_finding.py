"""Which session an id means: 404, 409 and 410 are decided here, for the API and for the store."""

from __future__ import annotations

from typing import Any

import pytest

from sessions_app.callers import caller_of_user
from sessions_app.errors import SessionConflict, SessionExpired, SessionNotFound
from sessions_app.models import ChatSession
from sessions_app.store import finding, opening, sweeper
from tests.db.session_states import completed, open_session

pytestmark = pytest.mark.django_db


@pytest.fixture
def of_a_clerk(django_user_model: Any) -> ChatSession:
    """A reading that a logged-in person has started. The API does not serve it."""
    user = django_user_model.objects.create_user("siti")
    return open_session(session_id="card", origin="ocr", caller=caller_of_user(user), request_digest="")


def expired() -> ChatSession:
    session = completed(session_id="old")
    sweeper.expire(session.pk)
    return session


def test_a_session_is_found_in_any_state() -> None:
    assert finding.find_session(open_session().pk, caller="").state == "queued"
    assert finding.find_session(completed().pk, caller="").state == "completed"


@pytest.mark.parametrize("session_id", ["none", "nul\0", "", "a" * 65, "-a"])
def test_an_id_that_no_session_has_is_not_found(session_id: str) -> None:
    with pytest.raises(SessionNotFound) as refusal:
        finding.find_session(session_id, caller="", param="Last-Event-ID")
    assert refusal.value.param == "Last-Event-ID"
    with pytest.raises(SessionNotFound):
        finding.check_may_cancel(session_id, caller="")


def test_an_expired_stream_is_gone_but_its_session_exists() -> None:
    session = expired()
    with pytest.raises(SessionExpired):
        finding.find_session(session.pk, caller="")
    finding.check_may_cancel(session.pk, caller="anyone")


def test_the_same_request_finds_its_session_and_another_conflicts() -> None:
    session = open_session(session_id="a", request_digest="one")
    assert finding.find_same("a", "one") == session
    assert finding.find_same("b", "one") is None
    with pytest.raises(SessionConflict):
        finding.find_same("a", "other")


def test_a_request_whose_stream_has_expired_is_told_so_by_the_api_and_by_the_store() -> None:
    expired()
    with pytest.raises(SessionExpired):
        finding.find_same("old", "digest")
    with pytest.raises(SessionExpired):
        opening.open_session(session_id="old", request={}, request_digest="digest", model="tiny")


def test_a_clerks_session_is_not_found_and_its_id_is_taken(of_a_clerk: ChatSession) -> None:
    with pytest.raises(SessionNotFound):
        finding.find_session(of_a_clerk.pk, caller=of_a_clerk.caller)
    with pytest.raises(SessionNotFound):
        finding.check_may_cancel(of_a_clerk.pk, caller="key:other")
    with pytest.raises(SessionConflict):
        finding.find_same(of_a_clerk.pk, "chat")


def test_a_card_is_cancelled_by_the_key_that_sent_it_alone() -> None:
    session = open_session(session_id="card", origin="ocr", caller="key:mine")
    finding.check_may_cancel(session.pk, caller="key:mine")
    with pytest.raises(SessionNotFound):
        finding.check_may_cancel(session.pk, caller="key:other")


def test_a_chat_is_cancelled_by_anyone_who_has_its_id() -> None:
    finding.check_may_cancel(open_session(caller="key:mine").pk, caller="key:other")
