"""A client that tries API keys without end is slowed down, and costs a bounded memory."""

from __future__ import annotations

import pytest

from inference.api import key_failures
from inference.api.key_failures import KeyFailures
from inference.errors import TooManyRequests


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def failures(clock: Clock) -> KeyFailures:
    return KeyFailures(tries=5, seconds=10, clock=clock)


def refusals(failures: KeyFailures, client: str, times: int) -> int:
    refused = 0
    for _ in range(times):
        try:
            failures.count(client)
        except TooManyRequests:
            refused += 1
    return refused


def test_so_many_are_let_through_and_one_more_when_its_time_has_come(failures: KeyFailures, clock: Clock) -> None:
    assert refusals(failures, "a", 25) == 20
    clock.now += 1.9
    assert refusals(failures, "a", 1) == 1
    clock.now += 0.1
    assert refusals(failures, "a", 2) == 1
    clock.now += 1000
    assert refusals(failures, "a", 25) == 20


def test_the_refusal_says_when_to_come_back(failures: KeyFailures, clock: Clock) -> None:
    refusals(failures, "a", 5)
    clock.now += 0.5
    with pytest.raises(TooManyRequests) as caught:
        failures.count("a")
    assert caught.value.headers["Retry-After"] == "2"
    assert "in 2 seconds" in caught.value.message
    clock.now += 2
    failures.count("a")


def test_clients_are_counted_apart(failures: KeyFailures) -> None:
    assert refusals(failures, "a", 25) == 20
    assert refusals(failures, "b", 5) == 0


def test_the_quietest_clients_are_forgotten(failures: KeyFailures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_failures, "MAX_CLIENTS", 3)
    for client in ("a", "b", "a", "c", "d", "a"):
        refusals(failures, client, 5)
    assert len(failures._left) == 3
    assert refusals(failures, "a", 1) == 1
    assert refusals(failures, "b", 1) == 0
