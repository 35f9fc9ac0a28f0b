"""What waits is found in the database, by any worker with a free slot, without a message."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from inference.worker.queue_watch import QueueWatch
from sessions_app.models import ChatSession
from sessions_app.store import transitions
from sessions_app.turns import Slot
from tests.db.session_states import claimed, completed, open_session
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

DEADLINE_SECONDS = 20.0


class FakeWorker:
    """A worker with two slots, whose sessions run until the test lets them go."""

    name = "this"

    def __init__(self) -> None:
        self.slots = threading.BoundedSemaphore(2)
        self.reserved: dict[Slot, threading.BoundedSemaphore] = {}
        self.began_in: list[Slot] = []
        self.has_engine = True
        self.is_database_away = False
        self.failed_claims = 0
        #: how many sessions each claim has got
        self.claims: list[int] = []
        self.runs = 0
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Event()

    def claim(self, slot: Slot, limit: int) -> list[ChatSession]:
        if self.is_database_away:
            self.failed_claims += 1
            raise OperationalError("server closed the connection")
        sessions = transitions.claim_next(worker=self.name, slot=slot, limit=limit)
        self.claims.append(len(sessions))
        self.began_in += [slot] * len(sessions)
        return sessions

    def run(self, session: ChatSession) -> None:
        self.runs += 1
        self.begun.release()
        self.may_end.wait(DEADLINE_SECONDS)

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert self.begun.acquire(timeout=DEADLINE_SECONDS)

    def free_slots(self) -> int:
        free = 0
        while self.slots.acquire(blocking=False):
            free += 1
        for _ in range(free):
            self.slots.release()
        return free


@pytest.fixture
def worker() -> Iterator[FakeWorker]:
    worker = FakeWorker()
    yield worker
    worker.may_end.set()


@pytest.fixture
def watch(worker: FakeWorker) -> QueueWatch:
    return QueueWatch(worker, worker.claim, worker.run)


def test_as_many_of_those_that_wait_are_run_as_there_is_room_for(worker: FakeWorker, watch: QueueWatch) -> None:
    for _ in range(3):
        open_session()
    watch.poll()
    worker.wait_for(2)
    assert worker.free_slots() == 0
    watch.poll()
    assert worker.runs == 2
    assert worker.claims == [2], "one statement claims them all"


def test_the_slots_of_what_has_ended_are_free_again(worker: FakeWorker, watch: QueueWatch) -> None:
    open_session()
    watch.poll()
    worker.wait_for(1)
    worker.may_end.set()
    watch.stop(DEADLINE_SECONDS)
    assert worker.free_slots() == 2


def test_with_nothing_to_run_no_slot_is_kept(worker: FakeWorker, watch: QueueWatch) -> None:
    claimed(open_session())
    completed()
    watch.poll()
    assert worker.free_slots() == 2
    assert worker.runs == 0


def test_a_session_whose_worker_is_silent_waits_too_and_one_of_its_own_does_not(
    worker: FakeWorker, watch: QueueWatch
) -> None:
    for name in ("this", "silent"):
        session = claimed(open_session())
        expired_at = timezone.now() - datetime.timedelta(seconds=1)
        ChatSession.objects.filter(pk=session.pk).update(worker=name, lease_expires_at=expired_at)
    watch.poll()
    worker.wait_for(1)
    assert worker.free_slots() == 1


def test_a_worker_without_an_engine_takes_nothing(worker: FakeWorker, watch: QueueWatch) -> None:
    open_session()
    worker.has_engine = False
    watch.poll()
    assert worker.free_slots() == 2
    assert worker.runs == 0


def test_it_polls_by_itself_until_it_is_stopped(worker: FakeWorker, watch: QueueWatch, settings: object) -> None:
    settings.QUEUE_POLL_SECONDS = 0.01  # type: ignore[attr-defined]
    watch.start()
    open_session()
    worker.wait_for(1)
    worker.may_end.set()
    watch.stop(DEADLINE_SECONDS)
    assert not watch.is_alive()


def test_a_database_that_fails_at_the_claim_leaves_the_sessions_and_the_slots_to_the_next_poll(
    worker: FakeWorker, watch: QueueWatch
) -> None:
    open_session()
    worker.is_database_away = True
    with pytest.raises(OperationalError):
        watch.poll(is_woken=True)
    assert worker.free_slots() == 2
    worker.is_database_away = False
    watch.poll()
    worker.wait_for(1)


def test_it_goes_on_after_the_database_was_away(worker: FakeWorker, watch: QueueWatch) -> None:
    open_session()
    worker.is_database_away = True
    watch.start()
    try:
        watch.wake()
        wait_for(lambda: worker.failed_claims > 0)
        worker.is_database_away = False
        watch.wake()
        worker.wait_for(1)
    finally:
        worker.may_end.set()
        watch.stop(DEADLINE_SECONDS)


def test_sessions_for_which_no_thread_can_be_started_are_released_at_once(
    worker: FakeWorker, watch: QueueWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[threading.Thread] = []

    class Thread(threading.Thread):
        def start(self) -> None:
            if started:
                raise RuntimeError("can't start new thread")
            started.append(self)
            super().start()

    for _ in range(2):
        open_session()
    monkeypatch.setattr("inference.worker.queue_watch.threading.Thread", Thread)
    with pytest.raises(RuntimeError):
        watch.poll()
    states = ChatSession.objects.order_by("state").values_list("state", "workers_lost")
    assert list(states) == [("queued", 0), ("running", 0)]
    assert worker.free_slots() == 1


# --- Messages ---


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The messages that the watch has sent."""
    messages: list[str] = []
    monkeypatch.setattr("inference.worker.queue_watch.send", messages.append)
    return messages


@pytest.fixture
def patient(settings: Any) -> None:
    """Polls that no test waits for."""
    settings.QUEUE_POLL_SECONDS = 3600


@pytest.mark.usefixtures("patient")
def test_a_message_has_it_claim_at_once(worker: FakeWorker, watch: QueueWatch, sent: list[str]) -> None:
    watch.start()
    open_session()
    watch.wake()
    worker.wait_for(1)
    worker.may_end.set()
    watch.stop(DEADLINE_SECONDS)
    assert sent == [], "one slot is free: nothing else was waiting"


@pytest.mark.usefixtures("patient")
def test_a_message_about_more_sessions_than_fit_is_passed_on_once(
    worker: FakeWorker, watch: QueueWatch, sent: list[str]
) -> None:
    for _ in range(5):
        open_session()
    watch.wake()
    watch.start()
    worker.wait_for(2)
    wait_for(lambda: sent)
    # The slots of these two are for two others, without a further message.
    worker.may_end.set()
    worker.wait_for(3)
    watch.stop(DEADLINE_SECONDS)
    assert worker.runs == 5
    assert len(sent) == 1


# --- While all slots are taken ---


def all_slots_taken_by(caller: str, worker: FakeWorker) -> None:
    """And one more of each kind is reserved."""
    worker.reserved = {slot: threading.BoundedSemaphore(1) for slot in (Slot.CARD, Slot.NEWCOMER)}
    for _ in range(2):
        assert transitions.claim(open_session(caller=caller).pk, worker=worker.name)
        assert worker.slots.acquire(blocking=False)
    for _ in range(3):
        open_session(caller=caller)


def test_a_caller_of_whom_nothing_runs_gets_the_slot_that_is_reserved(worker: FakeWorker, watch: QueueWatch) -> None:
    all_slots_taken_by("greedy", worker)
    watch.poll()
    assert worker.runs == 0
    open_session(caller="other")
    watch.poll()
    worker.wait_for(1)
    assert worker.began_in == [Slot.NEWCOMER]
    # The next one waits, but not for the greedy one.
    open_session(caller="third")
    watch.poll()
    assert worker.runs == 1


def test_a_card_gets_the_slot_that_is_reserved_for_cards(worker: FakeWorker, watch: QueueWatch) -> None:
    all_slots_taken_by("greedy", worker)
    open_session(caller="greedy", origin="ocr")
    watch.poll()
    worker.wait_for(1)
    assert worker.began_in[0] is Slot.CARD


def test_the_reserved_slots_stay_free_while_there_are_others(worker: FakeWorker, watch: QueueWatch) -> None:
    worker.reserved = {slot: threading.BoundedSemaphore(1) for slot in (Slot.CARD, Slot.NEWCOMER)}
    open_session(caller="a")
    open_session(caller="b", origin="ocr")
    watch.poll()
    worker.wait_for(2)
    assert worker.began_in == [Slot.COMMON] * 2


def test_it_looks_more_often_while_only_reserved_slots_are_free(
    worker: FakeWorker, watch: QueueWatch, settings: object
) -> None:
    settings.QUEUE_POLL_SECONDS = 3600  # type: ignore[attr-defined]
    all_slots_taken_by("greedy", worker)
    watch.poll()
    watch.start()
    open_session(caller="other")
    worker.wait_for(1)
    worker.may_end.set()
    watch.stop(DEADLINE_SECONDS)
    assert worker.began_in == [Slot.NEWCOMER]
