"""Appending to sessions, as a specification: who may write, where, and how a session ends."""

from __future__ import annotations

import pytest
from django.db import IntegrityError
from django.utils import timezone

from sessions_app import wakeups
from sessions_app.models import ChatSession, Chunk
from sessions_app.store import appending, transitions
from sessions_app.store.appending import Append, Closing, Piece
from sessions_app.wakeups import Wakeup
from tests.db.session_states import (
    append,
    check_log,
    claimed,
    expire_lease,
    log_of,
    open_session,
    text,
)

pytestmark = pytest.mark.django_db(transaction=True)

State = ChatSession.State
ERROR = {"message": "it broke", "type": "server_error", "param": None, "code": "broken"}


def test_chunks_follow_each_other_and_the_hubs_are_told(told: list[Wakeup]) -> None:
    session = claimed(open_session())
    assert append(session, "a", "b")
    assert append(session, "c")
    assert log_of(session) == [(0, "start"), (1, "a"), (2, "b"), (3, "c")]
    assert [(wakeup.last_index, [chunk.index for chunk in wakeup.chunks]) for wakeup in told] == [(2, [1, 2]), (3, [3])]
    assert Chunk.objects.token_ids_of(session.pk) == [97, 98, 99]
    check_log(session)


@pytest.mark.parametrize("index", [0, 1, 3, 99])
def test_an_append_at_a_wrong_index_is_refused_whole(index: int) -> None:
    session = claimed(open_session())
    assert append(session, "a")
    assert not append(session, "b", "c", index=index, closing=Closing())
    assert log_of(session) == [(0, "start"), (1, "a")]
    check_log(session)


def test_the_writer_of_an_old_attempt_is_refused() -> None:
    zombie = claimed(open_session())
    assert append(zombie, "a")
    expire_lease(zombie)
    successor = claimed(zombie)
    assert not append(zombie, "z")
    assert not append(zombie, "z", closing=Closing())
    assert append(successor, "b", closing=Closing())
    assert [said for _, said in log_of(successor)] == ["start", "a", "b", "finish", "usage", "end"]
    check_log(successor)


def test_nothing_is_appended_after_the_end() -> None:
    session = claimed(open_session())
    assert append(session, "a", closing=Closing())
    session.refresh_from_db()
    assert not append(session, "b")
    assert not append(session, closing=Closing())
    check_log(session)


def test_nothing_is_appended_to_what_was_handed_back() -> None:
    session = claimed(open_session())
    assert transitions.release(session.pk, session.attempt)
    assert not append(session, "a")
    assert log_of(session) == [(0, "start")]


def test_an_expired_lease_that_nobody_took_may_still_be_written() -> None:
    session = claimed(open_session())
    expire_lease(session)
    assert append(session, "a")
    assert not ChatSession.objects.with_expired_lease().exists()


def test_one_lost_session_does_not_hold_up_the_others_of_its_commit(told: list[Wakeup]) -> None:
    sessions = [claimed(open_session(session_id=name)) for name in "cab"]
    expire_lease(sessions[1])
    claimed(sessions[1])
    lost = appending.append(
        Append(session.pk, session.attempt, 1, [Piece(text(session.pk), [1])]) for session in sessions
    )
    assert lost == {"a"}
    assert [log_of(session)[1:] for session in sessions] == [[(1, "c")], [], [(1, "b")]]
    assert {wakeup.session_id for wakeup in told} == {"b", "c"}


def test_an_append_without_pieces_renews_the_lease_and_tells_nobody(told: list[Wakeup]) -> None:
    session = claimed(open_session())
    expire_lease(session)
    assert append(session)
    session.refresh_from_db()
    assert session.lease_expires_at is not None
    assert session.lease_expires_at > timezone.now()
    assert session.first_token_at is None
    assert told == []


def test_the_time_of_the_first_token_is_that_of_the_first_commit_with_tokens() -> None:
    session = claimed(open_session())
    assert not appending.append([Append(session.pk, 1, 1, [Piece(text(""))])])
    session.refresh_from_db()
    assert session.first_token_at is None
    assert append(session, "a")
    session.refresh_from_db()
    first = session.first_token_at
    assert first is not None
    assert append(session, "b")
    session.refresh_from_db()
    assert session.first_token_at == first


def test_a_commit_that_fails_writes_nothing_and_tells_nobody(told: list[Wakeup]) -> None:
    session = claimed(open_session())
    # An index that is taken although the session does not know of it: the insert fails behind the update.
    Chunk.objects.create(session=session, index=2, delta=text("x"))
    with pytest.raises(IntegrityError):
        append(session, "a", "b")
    session.refresh_from_db()
    assert session.next_index == 1
    assert Chunk.objects.filter(session=session).count() == 2
    assert told == []


def test_hubs_that_cannot_be_told_do_not_undo_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(told: object) -> None:
        raise ValueError

    monkeypatch.setattr(wakeups.transport(), "publish", broken)
    session = claimed(open_session())
    assert append(session, "a", closing=Closing())
    check_log(session)


# --- the end ---


@pytest.mark.parametrize(
    ("closing", "state", "reason", "terminal"),
    [
        (Closing(reason="stop"), State.COMPLETED, "stop", "end"),
        (Closing(reason="length"), State.COMPLETED, "length", "end"),
        (Closing(reason="cancelled"), State.CANCELLED, "cancelled", "end"),
        (Closing(error=ERROR, error_status=503), State.FAILED, "", "error"),
    ],
)
def test_a_session_ends_with_one_terminal_chunk(closing: Closing, state: str, reason: str, terminal: str) -> None:
    session = claimed(open_session())
    assert append(session, "a", closing=closing)
    check_log(session)
    assert (session.state, session.finish_reason, session.lease_expires_at) == (state, reason, None)
    assert log_of(session)[-1][1] == terminal
    assert session.error == closing.error


def test_the_end_says_what_was_used() -> None:
    session = claimed(open_session())
    assert append(session, "a", closing=Closing("stop", (), 7, 5, 2, 4))
    session.refresh_from_db()
    assert (session.prompt_tokens, session.completion_tokens) == (7, 5)
    usage = Chunk.objects.get(session=session, index=3).delta
    counts = {"prompt_tokens": 7, "completion_tokens": 5, "reasoning_tokens": 2, "cached_tokens": 4}
    assert usage == {"type": "usage"} | counts


def test_the_database_itself_refuses_an_end_without_a_time() -> None:
    session = open_session()
    with pytest.raises(IntegrityError):
        ChatSession.objects.filter(pk=session.pk).update(state=State.COMPLETED)
    with pytest.raises(IntegrityError):
        ChatSession.objects.filter(pk=session.pk).update(finished_at=timezone.now())


def test_an_index_is_taken_once() -> None:
    session = open_session()
    with pytest.raises(IntegrityError):
        Chunk.objects.create(session=session, index=0, delta=text("again"))
