"""Requests that wait for the database at the same time are served in one call, each with its own result or error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from django.db import DataError, OperationalError

from sessions_app import call_batching
from sessions_app.call_batching import CallBatcher
from sessions_app.errors import ApiError, SessionNotFound

DEADLINE_SECONDS = 20.0


@pytest.fixture(autouse=True)
def one_call_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_batching, "MAX_CALLS", 1)


class Calls:
    """Answers each number with its double; the first call waits for ``may_end``."""

    def __init__(self) -> None:
        self.items: list[list[int]] = []
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.raises: Exception | None = None
        self.unstorable: int | None = None

    def serve(self, items: Sequence[int]) -> list[int | ApiError]:
        self.items.append(list(items))
        if len(self.items) == 1:
            self.begun.set()
            assert self.may_end.wait(DEADLINE_SECONDS)
        if self.raises is not None:
            raise self.raises
        if self.unstorable in items:
            raise DataError("invalid byte sequence")
        return [2 * item if item >= 0 else SessionNotFound(str(item)) for item in items]


async def all_of(calls: Calls, items: Sequence[int], size: Callable[[int], int] = lambda item: 1) -> list[object]:
    """The results for ``items``, of which the first is in its call when the others come."""
    ask = CallBatcher[int, int](calls.serve, size=size)
    tasks = [asyncio.ensure_future(ask(items[0]))]
    await asyncio.to_thread(calls.begun.wait, DEADLINE_SECONDS)
    tasks += [asyncio.ensure_future(ask(item)) for item in items[1:]]
    await asyncio.sleep(0)
    calls.may_end.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_those_that_wait_are_served_in_one_call_in_their_order() -> None:
    calls = Calls()
    assert asyncio.run(all_of(calls, [1, 2, 3, 4])) == [2, 4, 6, 8]
    assert calls.items == [[1], [2, 3, 4]]


def test_the_error_of_one_is_not_the_error_of_the_others() -> None:
    calls = Calls()
    first, second, third = asyncio.run(all_of(calls, [1, -2, 3]))
    assert (first, third) == (2, 6)
    assert isinstance(second, SessionNotFound)


def test_a_database_that_is_away_fails_all_of_a_call_and_none_after_it() -> None:
    calls = Calls()
    failure = OperationalError("the database is away")

    async def run() -> tuple[Sequence[object], int]:
        ask = CallBatcher[int, int](calls.serve, size=lambda item: 1)
        calls.may_end.set()
        calls.raises = failure
        failed = await asyncio.gather(ask(1), ask(2), ask(3), return_exceptions=True)
        calls.raises = None
        return failed, await ask(4)

    assert asyncio.run(run()) == ([failure] * 3, 8)
    assert calls.items == [[1, 2, 3], [4]]


def test_an_item_that_the_database_cannot_store_fails_alone() -> None:
    calls = Calls()
    calls.unstorable = 3
    first, second, third, fourth = asyncio.run(all_of(calls, [1, 2, 3, 4]))
    assert (first, second, fourth) == (2, 4, 8)
    assert isinstance(third, DataError)


def test_what_is_large_is_not_held_in_memory_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_batching, "MAX_BYTES", 10)
    calls = Calls()
    asyncio.run(all_of(calls, [1, 20, 4, 6, 1], size=lambda item: item))
    assert calls.items == [[1], [20], [4, 6], [1]]


def test_a_call_serves_a_limited_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_batching, "MAX_ITEMS", 2)
    calls = Calls()
    asyncio.run(all_of(calls, [1, 2, 3, 4]))
    assert calls.items == [[1], [2, 3], [4]]


def test_a_request_that_was_cancelled_while_it_waited_disturbs_no_other() -> None:
    calls = Calls()

    async def run() -> Sequence[object]:
        ask = CallBatcher[int, int](calls.serve, size=lambda item: 1)
        first, second, third = (asyncio.ensure_future(ask(item)) for item in (1, 2, 3))
        await asyncio.to_thread(calls.begun.wait, DEADLINE_SECONDS)
        second.cancel()
        calls.may_end.set()
        return await asyncio.gather(first, second, third, return_exceptions=True)

    first, second, third = asyncio.run(run())
    assert (first, third) == (2, 6)
    assert isinstance(second, asyncio.CancelledError)
    assert calls.items in ([[1], [3]], [[1, 2, 3]])  # not served unless it was already in the call


def test_a_request_that_was_cancelled_while_it_waited_is_not_served() -> None:
    calls = Calls()

    async def run() -> None:
        ask = CallBatcher[int, int](calls.serve, size=lambda item: 1)
        first = asyncio.ensure_future(ask(1))
        await asyncio.to_thread(calls.begun.wait, DEADLINE_SECONDS)
        second, third = asyncio.ensure_future(ask(2)), asyncio.ensure_future(ask(3))
        await asyncio.sleep(0)
        second.cancel()
        calls.may_end.set()
        assert (await first, await third) == (2, 6)

    asyncio.run(run())
    assert calls.items == [[1], [3]]


class ThenCancels(list[int | ApiError]):
    """Results that cancel a request once its result has been set, before its task sees it."""

    request: asyncio.Future[int]

    def __iter__(self) -> Iterator[int | ApiError]:
        yield from super().__iter__()
        self.request.cancel()


@pytest.mark.parametrize("is_served", [False, True])
def test_the_result_of_a_request_that_was_cancelled_meanwhile_is_handed_over(is_served: bool) -> None:
    calls = Calls()
    results = ThenCancels()
    abandoned: list[int] = []

    def serve(items: Sequence[int]) -> Sequence[int | ApiError]:
        results[:] = calls.serve(items)
        return results if is_served else list(results)

    async def take(result: int) -> None:
        abandoned.append(result)
        raise RuntimeError("it cannot be cleaned up")

    async def run() -> Sequence[object]:
        ask = CallBatcher[int, int](serve, size=lambda item: 1, abandoned=take)
        results.request = first = asyncio.ensure_future(ask(1))
        await asyncio.to_thread(calls.begun.wait, DEADLINE_SECONDS)
        if not is_served:
            first.cancel()
        calls.may_end.set()
        return await asyncio.gather(first, ask(2), return_exceptions=True)

    first, second = asyncio.run(run())
    assert isinstance(first, asyncio.CancelledError)
    assert second == 4
    assert abandoned == [2]


def test_a_refusal_that_is_about_no_item_is_asked_for_once() -> None:
    calls = Calls()
    calls.raises = SessionNotFound("x")
    results = asyncio.run(all_of(calls, [1, 2, 3, 4]))
    assert results == [calls.raises] * 4
    assert calls.items == [[1], [2, 3, 4]]


def test_a_request_that_comes_when_all_calls_have_just_ended_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_batching, "MAX_CALLS", 2)

    async def run() -> int:
        may_end = asyncio.Event()

        async def in_db(serve: Callable[[Sequence[int]], list[int]], items: Sequence[int]) -> list[int]:
            await may_end.wait()
            return serve(items)

        monkeypatch.setattr(call_batching, "in_db", in_db)
        ask = CallBatcher[int, int](lambda items: list(items), size=lambda item: 1)
        both = []
        for item in (1, 2):
            both.append(asyncio.ensure_future(ask(item)))
            await asyncio.sleep(0)  # asked
            await asyncio.sleep(0)  # its call has begun

        async def come_late() -> int:
            # Woken in the same iteration of the loop as the two calls, and after them.
            await may_end.wait()
            return await ask(3)

        late = asyncio.ensure_future(come_late())
        await asyncio.sleep(0)
        may_end.set()
        assert await asyncio.gather(*both) == [1, 2]
        return await asyncio.wait_for(late, DEADLINE_SECONDS)

    assert asyncio.run(run()) == 3


def test_a_second_call_may_begin_while_the_first_is_in_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_batching, "MAX_CALLS", 2)
    calls = Calls()

    async def run() -> None:
        ask = CallBatcher[int, int](calls.serve, size=lambda item: 1)
        first = asyncio.ensure_future(ask(1))
        await asyncio.to_thread(calls.begun.wait, DEADLINE_SECONDS)
        assert await ask(2) == 4
        assert not first.done()
        calls.may_end.set()
        assert await first == 2

    asyncio.run(run())
