"""What waits is found in the database, by whoever has room, with no message."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator

import pytest
from django.utils import timezone

from inference.queue_watch import QueueWatch
from sessions_app.models import ChatSession
from tests.db.session_states import claimed, completed, open_session

pytestmark = pytest.mark.django_db(transaction=True)

DEADLINE_SECONDS = 20.0


class Room:
    """A worker with two slots, whose sessions run until the test lets them go."""

    def __init__(self) -> None:
        self.slots = threading.BoundedSemaphore(2)
        self.has_engine = True
        self.running: list[str] = []
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Event()

    def runs(self, session_id: str) -> bool:
        return session_id in self.running

    def run(self, session_id: str) -> None:
        self.running.append(session_id)
        self.begun.release()
        self.may_end.wait(DEADLINE_SECONDS)

    def wait_for(self, count: int) -> list[str]:
        for _ in range(count):
            assert self.begun.acquire(timeout=DEADLINE_SECONDS)
        return self.running

    def free_slots(self) -> int:
        free = 0
        while self.slots.acquire(blocking=False):
            free += 1
        for _ in range(free):
            self.slots.release()
        return free


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room()
    yield room
    room.may_end.set()


@pytest.fixture
def watch(room: Room) -> QueueWatch:
    return QueueWatch(room, room.run)


def aged(session: ChatSession, seconds: float) -> str:
    created_at = timezone.now() - datetime.timedelta(seconds=seconds)
    ChatSession.objects.filter(pk=session.pk).update(created_at=created_at)
    return session.pk


def test_what_waits_is_run_the_oldest_first_and_as_many_as_there_is_room_for(room: Room, watch: QueueWatch) -> None:
    ages = {aged(open_session(), age): age for age in (10, 30, 20)}
    watch.look()
    assert sorted(room.wait_for(2), key=ages.__getitem__) == sorted(ages, key=ages.__getitem__)[1:]
    assert room.free_slots() == 0
    watch.look()
    assert len(room.running) == 2


def test_the_slots_of_what_has_ended_are_free_again(room: Room, watch: QueueWatch) -> None:
    open_session()
    watch.look()
    room.wait_for(1)
    room.may_end.set()
    watch.stop(DEADLINE_SECONDS)
    assert room.free_slots() == 2


def test_with_nothing_to_run_no_slot_is_kept(room: Room, watch: QueueWatch) -> None:
    claimed(open_session())
    completed()
    watch.look()
    assert room.free_slots() == 2
    assert room.running == []


def test_a_session_whose_worker_is_silent_is_found_and_one_of_its_own_is_not(room: Room, watch: QueueWatch) -> None:
    mine, silent = claimed(open_session()), claimed(open_session())
    ChatSession.objects.update(lease_expires_at=timezone.now() - datetime.timedelta(seconds=1))
    room.running.append(mine.pk)
    watch.look()
    assert room.wait_for(1) == [mine.pk, silent.pk]


def test_a_worker_without_an_engine_takes_nothing(room: Room, watch: QueueWatch) -> None:
    open_session()
    room.has_engine = False
    watch.look()
    assert room.free_slots() == 2
    assert room.running == []


def test_it_looks_by_itself_until_it_is_stopped(room: Room, watch: QueueWatch, settings: object) -> None:
    settings.QUEUE_POLL_SECONDS = 0.01  # type: ignore[attr-defined]
    watch.start()
    session = open_session()
    assert room.wait_for(1) == [session.pk]
    room.may_end.set()
    watch.stop(DEADLINE_SECONDS)
    assert not watch.is_alive()
