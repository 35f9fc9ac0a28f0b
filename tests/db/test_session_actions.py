"""What else becomes of a session, as a specification: claim, release, cancel, fail, and all of it at the same time."""

from __future__ import annotations

import datetime
import random
import threading
import time
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from sessions_app.errors import ApiError, SessionNotFound
from sessions_app.models import ChatSession, Chunk
from sessions_app.store import appending, transitions
from sessions_app.store.appending import Append, Closing, Piece
from sessions_app.wakeups import Wakeup
from tests.db.session_states import (
    WORKER,
    append,
    check_log,
    claimed,
    claimed_next,
    completed,
    expire_lease,
    log_of,
    open_session,
    say,
    text,
)
from tests.db.threads import DEADLINE_SECONDS, at_once, times

pytestmark = pytest.mark.django_db(transaction=True)

State = ChatSession.State
BROKEN = ApiError("it broke", code="broken", status=503, error_type="server_error")
ERROR = {"message": "it broke", "type": "server_error", "param": None, "code": "broken"}


# --- claim ---


def test_a_claim_gives_a_lease_and_a_higher_number() -> None:
    session = transitions.claim(open_session().pk, worker="w1")
    assert session is not None
    assert (session.state, session.attempt, session.worker, session.next_index) == (State.RUNNING, 1, "w1", 1)
    assert session.lease_expires_at is not None
    assert session.lease_expires_at > timezone.now()
    assert session.started_at is not None


def test_what_runs_or_has_ended_or_is_not_there_cannot_be_claimed() -> None:
    assert transitions.claim(claimed(open_session()).pk, worker="w2") is None
    assert transitions.claim(completed().pk, worker="w2") is None
    assert transitions.claim("none", worker="w2") is None


def test_an_expired_lease_can_be_claimed_and_the_first_start_is_kept() -> None:
    first = claimed(open_session())
    expire_lease(first)
    second = transitions.claim(first.pk, worker="w2")
    assert second is not None
    assert (second.attempt, second.worker, second.started_at) == (2, "w2", first.started_at)


@pytest.mark.parametrize("is_expired", [False, True])
def test_of_many_claims_at_once_one_gets_it(is_expired: bool) -> None:
    for _ in range(5):
        session = open_session()
        if is_expired:
            claimed(session)
            expire_lease(session)
        got = at_once(*times(lambda: transitions.claim(session.pk, worker="w"), 4))  # noqa: B023
        assert [claim.attempt for claim in got if claim] == [2 if is_expired else 1]


def test_the_number_rises_with_every_claim() -> None:
    session = open_session()
    for attempt in range(1, 5):
        assert claimed(session).attempt == attempt
        expire_lease(session)


def test_a_claim_notes_its_fingerprint_until_something_is_said() -> None:
    session = claimed(open_session(), revision="a")
    assert session.fingerprint == {"revision": "a"}
    expire_lease(session)
    assert claimed(session, revision="b").fingerprint == {"revision": "b"}
    say(session, text("Sebuah"))
    expire_lease(session)
    assert claimed(session, revision="c").fingerprint == {"revision": "b"}


def test_of_one_caller_what_a_lost_worker_began_comes_next_and_then_the_oldest() -> None:
    ages = {"young": 10, "old": 30, "silent": 20}
    for name, age in ages.items():
        session = open_session(session_id=name)
        ChatSession.objects.filter(pk=name).update(created_at=timezone.now() - datetime.timedelta(seconds=age))
        if name == "silent":
            expire_lease(claimed(session))
    claimed(open_session())
    completed()
    taken = [claimed_next() for _ in range(4)]
    assert [session and session.pk for session in taken] == ["silent", "old", "young", None]
    assert [session and session.attempt for session in taken] == [2, 1, 1, None]


def test_a_worker_leaves_its_own_session_with_an_expired_lease_to_its_writer_and_the_sweeper() -> None:
    session = transitions.claim(open_session().pk, worker="w")
    assert session is not None
    expire_lease(session)
    assert claimed_next() is None
    again = claimed_next("other")
    assert again is not None
    assert again.pk == session.pk


def test_of_many_that_take_the_next_at_once_each_gets_another() -> None:
    names = {open_session().pk for _ in range(6)}
    taken = at_once(*times(claimed_next, 8))
    found = [session.pk for session in taken if session is not None]
    # On PostgreSQL one may pass over a row that another has just locked, and find it gone.
    assert len(found) == len(set(found))
    while (session := claimed_next()) is not None:
        found.append(session.pk)
    assert sorted(found) == sorted(names)


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite locks no rows")
def test_a_row_that_somebody_frozen_holds_locked_holds_up_nobody() -> None:
    first, second = open_session(), open_session()
    locked, may_end = threading.Event(), threading.Event()

    def freeze() -> None:
        with transaction.atomic():
            ChatSession.objects.select_for_update().get(pk=first.pk)
            locked.set()
            may_end.wait(DEADLINE_SECONDS)

    def take() -> ChatSession | None:
        assert locked.wait(DEADLINE_SECONDS)
        try:
            return claimed_next()
        finally:
            may_end.set()

    _, taken = at_once(freeze, take)
    assert taken is not None
    assert taken.pk == second.pk


def test_one_that_has_lost_too_many_workers_is_left_alone(settings: Any) -> None:
    settings.SESSION_MAX_ATTEMPTS = 2
    session = claimed(open_session())
    expire_lease(session)
    assert claimed(session).workers_lost == 1
    expire_lease(session)
    assert transitions.claim(session.pk, worker="w3") is None


# --- release ---


def test_a_session_handed_back_waits_again_with_what_it_has(sent: list[str]) -> None:
    session = claimed(open_session(session_id="a"))
    assert append(session, "a")
    assert transitions.release("a", 1)
    session.refresh_from_db()
    assert (session.state, session.attempt, session.next_index, session.worker) == (State.QUEUED, 1, 2, "")
    assert sent == ["a", "a"]
    successor = claimed(session)
    assert (successor.attempt, successor.next_index) == (2, 2)


def test_only_its_holder_hands_a_session_back(sent: list[str]) -> None:
    session = claimed(open_session(session_id="a"))
    expire_lease(session)
    claimed(session)
    assert not transitions.release("a", 1)
    assert not transitions.release(completed().pk, 1)
    session.refresh_from_db()
    assert session.state == State.RUNNING


def test_a_session_handed_back_after_a_cancel_ends_at_once() -> None:
    session = claimed(open_session())
    assert append(session, "a")
    transitions.request_cancel(session.pk)
    assert transitions.release(session.pk, 1)
    check_log(session)
    assert session.state == State.CANCELLED


# --- cancel and fail ---


def test_what_waits_is_cancelled_at_once(told: list[Wakeup]) -> None:
    session = open_session()
    assert transitions.request_cancel(session.pk).state == State.CANCELLED
    check_log(session)
    assert log_of(session) == [(0, "start"), (1, "finish"), (2, "usage"), (3, "end")]
    assert (session.finish_reason, session.completion_tokens) == ("cancelled", 0)
    assert told[-1].last_index == 3
    assert transitions.claim(session.pk, worker=WORKER) is None


def test_what_runs_is_marked_for_its_worker() -> None:
    session = claimed(open_session())
    assert transitions.request_cancel(session.pk).state == State.RUNNING
    assert transitions.cancel_requested_among([session.pk, "none"]) == {session.pk}
    session.refresh_from_db()
    first = session.cancel_requested_at
    assert transitions.request_cancel(session.pk).cancel_requested_at == first
    assert append(session, "a", closing=Closing(reason="cancelled"))
    assert transitions.cancel_requested_among([session.pk]) == set()


def test_what_a_dead_worker_ran_is_cancelled_at_once_and_the_dead_stay_dead() -> None:
    session = claimed(open_session())
    assert append(session, "a", "b")
    expire_lease(session)
    assert transitions.request_cancel(session.pk).state == State.CANCELLED
    zombie = session.attempt
    check_log(session)
    assert session.attempt > zombie
    assert session.completion_tokens == 2


@pytest.mark.parametrize("closing", [Closing(), Closing(reason="cancelled"), Closing.failed(BROKEN)])
def test_cancelling_what_has_ended_changes_nothing(closing: Closing) -> None:
    session = claimed(open_session())
    assert append(session, "a", closing=closing)
    session.refresh_from_db()
    before = log_of(session)
    after = transitions.request_cancel(session.pk)
    assert (after.state, after.attempt, after.next_index) == (session.state, session.attempt, session.next_index)
    assert after.cancel_requested_at is None
    assert log_of(session) == before


def test_cancelling_what_is_not_there_says_so() -> None:
    with pytest.raises(SessionNotFound):
        transitions.request_cancel("none")


def test_what_nobody_runs_can_be_failed_and_keeps_what_it_has() -> None:
    waiting, dead = open_session(), claimed(open_session())
    assert append(dead, "a")
    expire_lease(dead)
    for session in (waiting, dead):
        assert transitions.fail(session.pk, BROKEN)
        check_log(session)
        assert (session.state, session.error) == (State.FAILED, ERROR)
        last = Chunk.objects.get(session=session, index=session.next_index - 1)
        assert last.delta == {"type": "error", "error": ERROR, "status": 503}
    assert not append(dead, "z")


def test_what_somebody_runs_or_has_ended_is_not_failed() -> None:
    for session in (claimed(open_session()), completed()):
        assert not transitions.fail(session.pk, BROKEN)
        check_log(session)
    assert not transitions.fail("none", BROKEN)


# --- all of it at the same time ---


@pytest.mark.parametrize("end", [transitions.request_cancel, lambda pk: transitions.fail(pk, BROKEN)])
def test_of_many_ends_at_once_one_is_written(end: Any) -> None:
    for _ in range(5):
        session = claimed(open_session())
        expire_lease(session)
        at_once(
            lambda: end(session.pk),  # noqa: B023
            lambda: transitions.request_cancel(session.pk),  # noqa: B023
            lambda: append(session, "a", closing=Closing()),  # noqa: B023
            lambda: transitions.fail(session.pk, BROKEN),  # noqa: B023
        )
        check_log(session)
        assert session.is_finished


def test_a_zombie_never_writes_between_the_lines_of_its_heirs(settings: Any) -> None:
    """Writers append as fast as they can while others claim the session from under them."""
    settings.SESSION_MAX_ATTEMPTS = 1000
    for round_ in range(2):
        session = open_session(session_id=f"round-{round_}")
        over = threading.Event()

        def write() -> list[int]:
            """Claim whenever it can be had, and write until it is lost; the attempts that this thread wrote as."""
            mine: list[int] = []
            while not over.is_set():  # noqa: B023
                held = transitions.claim(session.pk, worker="w")  # noqa: B023
                if held is None:
                    continue
                mine.append(held.attempt)
                while append(held, f"{held.attempt}"):
                    # Its lease expires, and it does not know: others may claim while it goes on.
                    expire_lease(held)
                    time.sleep(random.uniform(0, 0.002))
                    if held.attempt > 8:
                        over.set()  # noqa: B023
                        break
            return mine

        attempts = [attempt for mine in at_once(*times(write, 3)) for attempt in mine]
        assert len(attempts) == len(set(attempts))
        check_log(session)
        wrote = [int(said) for _, said in log_of(session)[1:]]
        assert wrote == sorted(wrote)
        assert len(set(wrote)) > 1


def test_group_commits_of_the_same_sessions_do_not_wait_for_each_other_for_ever() -> None:
    sessions = [claimed(open_session(session_id=f"s{n}")) for n in range(6)]

    def write(order: list[ChatSession]) -> int:
        lost = 0
        for _ in range(15):
            lost += len(appending.append([Append(s.pk, 1, s.next_index, [Piece(text("x"), [1])]) for s in order]))
            for s in order:
                s.next_index += 1
        return lost

    copies = [[ChatSession.objects.get(pk=s.pk) for s in order] for order in (sessions, sessions[::-1])]
    lost = at_once(lambda: write(copies[0]), lambda: write(copies[1]))
    # Each index is written once, by one of the two.
    assert sum(lost) == 2 * 15 * 6 - sum(s.next_index - 1 for s in ChatSession.objects.all())
    for session in sessions:
        check_log(session)


def test_say_and_completed_make_logs_that_hold(sent: list[str]) -> None:
    session = claimed(open_session())
    say(session, text("a"))
    check_log(session)
    check_log(completed())
