"""Long work lets short work pass."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from inference.engine.lanes import Lane, Lanes, Work

#: longer than anything here takes, for what would otherwise hang
PATIENCE = 30


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    lanes = Lanes("test")
    yield lanes
    assert lanes.stop(PATIENCE)


def work(name: str, steps: int, log: list[str], done: threading.Event, lane: Lane = Lane.TEXT) -> Work:
    for _ in range(steps):
        log.append(name)
        yield lane
    log.append(f"{name} ends")
    done.set()


def test_what_comes_later_and_is_shorter_ends_first(lanes: Lanes) -> None:
    log: list[str] = []
    short, long = threading.Event(), threading.Event()

    def first() -> Work:
        yield Lane.TEXT
        # Both wait from here on, whenever the threads get to run.
        lanes.submit(work("short", 3, log, short))
        yield from work("long", 50, log, long)

    lanes.submit(first())
    assert long.wait(PATIENCE)
    assert short.wait(PATIENCE)
    assert log.index("short ends") <= 10
    assert log[-1] == "long ends"


def test_works_of_equal_length_end_in_the_order_in_which_they_came(lanes: Lanes) -> None:
    log: list[str] = []
    events = [threading.Event() for _ in range(5)]
    all_there = threading.Event()

    def first() -> Work:
        assert all_there.wait(PATIENCE)
        yield Lane.TEXT

    lanes.submit(first())
    for number, event in enumerate(events):
        lanes.submit(work(str(number), 4, log, event))
    all_there.set()
    assert all(event.wait(PATIENCE) for event in events)
    assert [entry for entry in log if "ends" in entry] == [f"{number} ends" for number in range(5)]


def test_text_never_waits_for_media(lanes: Lanes) -> None:
    text, media = threading.Event(), threading.Event()

    def slow() -> Work:
        yield Lane.MEDIA
        # As many as there may ever be at once, all waiting for the text that came after them.
        assert text.wait(PATIENCE)
        media.set()

    for _ in range(20):
        lanes.submit(slow())
    lanes.submit(work("text", 5, [], text))
    assert media.wait(PATIENCE)


def test_stopping_closes_what_waits_and_what_comes_later() -> None:
    lanes = Lanes("test")
    running = threading.Event()

    def endless() -> Work:
        while True:
            running.set()
            yield Lane.TEXT

    # Held here, because a generator that nothing refers to is closed anyway.
    works = [endless() for _ in range(3)]
    for each in works:
        lanes.submit(each)
    assert running.wait(PATIENCE)
    assert lanes.stop(PATIENCE)
    assert lanes.stop(PATIENCE)
    works.append(endless())
    lanes.submit(works[-1])
    assert [next(each, "closed") for each in works] == ["closed"] * 4


def test_lanes_without_work_stop_too() -> None:
    assert Lanes("test").stop(PATIENCE)
