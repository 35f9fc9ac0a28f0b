"""In what order sessions are claimed, as a specification: callers take turns, whatever each of them has waiting."""

from __future__ import annotations

import datetime
import random
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from django.db import connection, transaction
from django.utils import timezone

from sessions_app import turns
from sessions_app.models import ChatSession
from sessions_app.store import transitions
from sessions_app.store.appending import Closing
from sessions_app.turns import Slot
from tests.db.session_states import claimed, claimed_next, completed, expire_lease, open_session, say
from tests.db.session_states import text as said
from tests.db.threads import at_once, times
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

DEADLINE_SECONDS = 20.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is sent to workers, and no two rows are of the same moment."""
    monkeypatch.setattr("sessions_app.store.queue.send", lambda session_id: None)
    began, ticks = timezone.now(), iter(range(10**6))
    monkeypatch.setattr("django.utils.timezone.now", lambda: began + datetime.timedelta(milliseconds=next(ticks)))
    yield


def wait_many(caller: str, count: int, origin: str = "chat") -> None:
    for _ in range(count):
        open_session(caller=caller, origin=origin)


def next_caller(slot: Slot = Slot.COMMON) -> str | None:
    session = claimed_next(slot=slot)
    return None if session is None else session.caller


def end(session: ChatSession) -> None:
    say(session, said("a"), closing=Closing(reason="stop"))


def end_one_of(caller: str) -> None:
    running = ChatSession.objects.running().filter(caller=caller).order_by("started_at").first()
    assert running is not None
    end(running)


# --- Turns ---


def test_alone_a_caller_gets_every_slot() -> None:
    wait_many("a", 5)
    assert [next_caller() for _ in range(6)] == ["a"] * 5 + [None]


def test_the_caller_of_whom_the_fewest_run_comes_next() -> None:
    wait_many("a", 6)
    assert [next_caller() for _ in range(3)] == ["a"] * 3
    wait_many("b", 6)
    assert [next_caller() for _ in range(5)] == ["b", "b", "b", "a", "b"]
    running = Counter(ChatSession.objects.running().values_list("caller", flat=True))
    assert running == {"a": 4, "b": 4}


def test_the_single_request_of_another_comes_before_five_hundred() -> None:
    now = timezone.now()
    ChatSession.objects.bulk_create(
        ChatSession(id=f"a{n}", caller="a", request={}, model="tiny", next_index=1, created_at=now) for n in range(500)
    )
    for _ in range(16):
        assert next_caller() == "a"
    open_session(caller="b")
    assert next_caller() == "b"


def test_with_one_slot_callers_alternate_however_long_their_queues() -> None:
    wait_many("a", 20)
    wait_many("b", 2)
    taken = []
    for _ in range(6):
        taken.append(next_caller())
        end_one_of(str(taken[-1]))
    assert taken == ["a", "b", "a", "b", "a", "a"]


def test_who_comes_in_between_does_not_wait_for_those_who_had_a_turn() -> None:
    wait_many("a", 20)
    wait_many("b", 20)
    for _ in range(4):
        end_one_of(str(next_caller()))
    open_session(caller="c")
    assert next_caller() == "c"


def test_the_cards_and_the_chats_of_a_caller_are_two_queues() -> None:
    wait_many("a", 4)
    for _ in range(2):
        next_caller()
    open_session(caller="a", origin="ocr")
    session = claimed_next()
    assert session is not None
    assert session.origin == "ocr"


def test_sessions_of_no_known_caller_are_one_queue() -> None:
    wait_many("", 3)
    open_session(caller="b")
    assert [next_caller() for _ in range(3)] == ["", "b", ""]


def test_what_a_lost_worker_began_comes_first_whoever_has_asked() -> None:
    lost = claimed(open_session(caller="a"))
    wait_many("b", 1)
    for _ in range(2):
        claimed(open_session(caller="a"))
    expire_lease(lost)
    taken = claimed_next()
    assert taken is not None
    assert (taken.pk, taken.workers_lost) == (lost.pk, 1)


def test_what_the_sweeper_took_back_comes_first_too() -> None:
    lost = claimed(open_session(caller="a"))
    expire_lease(lost)
    assert transitions.release(lost.pk, lost.attempt, only_if_expired=True)
    for _ in range(2):
        claimed(open_session(caller="a"))
    wait_many("b", 1)
    assert next_caller() == "a"
    assert next_caller() == "b"


def test_a_session_with_an_expired_lease_does_not_count_as_running() -> None:
    for _ in range(2):
        expire_lease(claimed(open_session(caller="a")))
    claimed(open_session(caller="b"))
    ChatSession.objects.filter(caller="a").update(worker="w")  # of this worker: it does not claim them itself
    wait_many("b", 1)
    wait_many("a", 1)
    assert next_caller() == "a"


def test_claims_of_one_moment_take_a_session_of_every_caller() -> None:
    wait_many("a", 8)
    wait_many("b", 2)
    wait_many("c", 1)
    taken = at_once(*times(claimed_next, 3))
    found = [session.caller for session in taken if session is not None]
    # On PostgreSQL one may pass over a row that another has just locked, and find it gone.
    while len(found) < 3:
        found.append(str(next_caller()))
    assert sorted(found) == ["a", "b", "c"]


def test_what_has_ended_long_ago_changes_nothing() -> None:
    for _ in range(3):
        completed(caller="b")
    wait_many("b", 1)
    wait_many("a", 1)
    assert [next_caller(), next_caller()] == ["a", "b"]


def test_the_order_that_is_shown_is_the_order_of_the_claims() -> None:
    wait_many("a", 4)
    next_caller()
    wait_many("b", 2)
    wait_many("a", 1, origin="ocr")
    shown = turns.in_order()
    claimed_ids = [session.pk for _ in range(6) if (session := claimed_next()) is not None]
    assert shown == claimed_ids


# --- Several at once ---


def test_one_claim_takes_what_as_many_claims_of_one_would_have_taken() -> None:
    wait_many("a", 6)
    next_caller()
    wait_many("b", 3)
    wait_many("a", 1, origin="ocr")
    shown = turns.in_order()
    taken = transitions.claim_next(worker="w", limit=5)
    assert {session.pk for session in taken} == set(shown[:5])
    assert turns.in_order() == shown[5:]


def test_each_of_several_has_a_fencing_token_a_lease_and_an_event_of_its_own() -> None:
    lost = claimed(open_session(caller="a"))
    expire_lease(lost)
    wait_many("b", 2)
    taken = transitions.claim_next(worker="w", fingerprint={"revision": "r"}, limit=10)
    assert [(session.caller, session.attempt, session.workers_lost) for session in taken] == [
        ("a", 2, 1),
        ("b", 1, 0),
        ("b", 1, 0),
    ]
    for session in taken:
        assert session.lease_expires_at is not None
        assert session.fingerprint == {"revision": "r"}
        event = session.events.filter(kind="claimed").latest("at")
        assert (event.attempt, event.worker) == (session.attempt, "w")
    assert transitions.claim_next(worker="w", limit=10) == []


def test_a_claim_takes_no_more_than_it_has_slots_for_and_more_than_the_head_of_a_long_queue() -> None:
    now = timezone.now()
    ChatSession.objects.bulk_create(
        ChatSession(id=f"a{n}", caller="a", request={}, model="tiny", next_index=1, created_at=now) for n in range(300)
    )
    assert len(transitions.claim_next(worker="w", limit=7)) == 7
    assert len(transitions.claim_next(worker="w", limit=200)) == 200
    assert ChatSession.objects.running().count() == 207


def test_of_claims_of_several_at_one_moment_each_gets_others() -> None:
    wait_many("a", 12)
    together = at_once(*times(lambda: transitions.claim_next(worker="w", limit=4), 3))
    found = [session.pk for taken in together for session in taken]
    while taken := transitions.claim_next(worker="w", limit=4):
        found += [session.pk for session in taken]
    assert len(found) == len(set(found)) == 12


def test_they_come_in_turns() -> None:
    wait_many("a", 2)
    wait_many("b", 1)
    assert [session.caller for session in transitions.claim_next(worker="w", limit=3)] == ["a", "b", "a"]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
def test_sessions_that_others_have_locked_leave_enough_for_several_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "HEAD_MARGIN", 0)
    wait_many("a", 40)
    claims = [OpenClaim(10) for _ in range(4)]
    try:
        assert [claim.count for claim in claims] == [10] * 4
    finally:
        for claim in claims:
            claim.commit()


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
def test_sessions_that_another_claim_commits_meanwhile_cost_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_many("a", 6)
    slow = turns.ON_POSTGRESQL.replace(
        "FROM head JOIN",
        "FROM (SELECT *, CASE WHEN turn = 1 THEN pg_sleep(2) END FROM head ORDER BY turn OFFSET 0) AS head JOIN",
    )
    assert slow != turns.ON_POSTGRESQL
    taken: list[ChatSession] = []

    def claim() -> None:
        taken.extend(transitions.claim_next(worker="w", limit=3))
        connection.close()

    with monkeypatch.context() as patch:
        patch.setattr(turns, "ON_POSTGRESQL", slow)
        claiming = threading.Thread(target=claim)
        claiming.start()
        wait_for(is_sleeping)
    first = transitions.claim_next(worker="v", limit=3)
    claiming.join(DEADLINE_SECONDS)
    assert len(first) == len(taken) == 3
    assert not {session.pk for session in first} & {session.pk for session in taken}


def is_sleeping() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        return bool(cursor.fetchone()[0])


class OpenClaim:
    """A claim in a thread of its own, whose transaction stays open until ``commit``."""

    def __init__(self, limit: int) -> None:
        self._may_commit = threading.Event()
        self._claimed = threading.Event()
        self.count = 0
        self._thread = threading.Thread(target=self._run, args=[limit])
        self._thread.start()
        assert self._claimed.wait(DEADLINE_SECONDS)

    def _run(self, limit: int) -> None:
        try:
            with transaction.atomic():
                self.count = len(transitions.claim_next(worker="w", limit=limit))
                self._claimed.set()
                self._may_commit.wait(DEADLINE_SECONDS)
        finally:
            self._claimed.set()
            connection.close()

    def commit(self) -> None:
        self._may_commit.set()
        self._thread.join(DEADLINE_SECONDS)


def test_a_cancelled_session_is_not_among_them() -> None:
    sessions = [open_session(caller="a") for _ in range(3)]
    transitions.request_cancel(sessions[1].pk)
    taken = transitions.claim_next(worker="w", limit=3)
    assert [session.pk for session in taken] == [sessions[0].pk, sessions[2].pk]


def test_several_slots_for_newcomers_go_to_several_callers() -> None:
    for caller in ("a", "b", "c"):
        wait_many(caller, 2)
    taken = transitions.claim_next(worker="w", slot=Slot.NEWCOMER, limit=2)
    assert sorted(session.caller for session in taken) == ["a", "b"]


# --- Reserved slots ---


def test_a_slot_for_newcomers_is_for_callers_of_whom_nothing_runs() -> None:
    wait_many("a", 3)
    next_caller()
    assert next_caller(Slot.NEWCOMER) is None
    wait_many("b", 2)
    assert next_caller(Slot.NEWCOMER) == "b"
    assert next_caller(Slot.NEWCOMER) is None


def test_a_slot_for_cards_is_for_cards_in_turns() -> None:
    wait_many("a", 3)
    assert next_caller(Slot.CARD) is None
    wait_many("b", 3, origin="ocr")
    wait_many("c", 1, origin="ocr")
    assert [next_caller(Slot.CARD) for _ in range(3)] == ["b", "c", "b"]


# --- In the long run ---


@pytest.mark.parametrize("seed", range(3))
def test_nobody_waits_for_more_than_its_turn_however_long_others_take(seed: int) -> None:
    """Four slots, six callers of whom one floods and one asks for long answers; ends come at random."""
    draw = random.Random(seed)
    slots, callers = 4, ["flood", "long", "c", "d", "e", "f"]
    wait_many("flood", 30)
    waits: dict[str, list[int]] = {caller: [] for caller in callers}
    asked_at: dict[str, int] = {}
    running: list[ChatSession] = []
    for step in range(120):
        for caller in callers[1:]:
            if caller not in asked_at and not any(session.caller == caller for session in running):
                open_session(caller=caller)
                asked_at[caller] = step
        session = claimed_next()
        assert session is not None
        running.append(session)
        if session.caller in asked_at:
            waits[session.caller].append(step - asked_at.pop(session.caller))
        if len(running) == slots:
            ends = draw.choices(running, [1 if session.caller == "long" else 10 for session in running])[0]
            running.remove(ends)
            end(ends)
    # At most one claim of each other caller comes in between.
    assert max(wait for caller in callers[1:] for wait in waits[caller]) <= len(callers)
    assert all(len(waits[caller]) > 10 for caller in "cdef")
