"""Requests of one moment begin one after the other, and the loop looks at everything else in between."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

import pytest

from config.in_turn import MAX_STARTING, FairSemaphore, in_turn


def run(paths: list[str]) -> list[str]:
    """What happens, in order: the requests that begin, and a beat of something else of the loop in between."""
    seen: list[str] = []

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        seen.append(scope["path"])

    served = in_turn(application, for_path=lambda path: path.startswith("/v1/"))

    async def main() -> None:
        requests = [asyncio.create_task(served({"path": path}, None, None)) for path in paths]
        while not all(request.done() for request in requests):
            seen.append("beat")
            await asyncio.sleep(0)

    asyncio.run(main())
    return seen


def test_between_two_that_begin_the_loop_does_something_else() -> None:
    seen = run(["/v1/a", "/v1/b", "/v1/c"])
    began = [index for index, what in enumerate(seen) if what != "beat"]
    assert [seen[index] for index in began] == ["/v1/a", "/v1/b", "/v1/c"]
    assert all("beat" in seen[first:second] for first, second in itertools.pairwise(began))


def test_other_paths_wait_for_nobody() -> None:
    seen = run([*(f"/v1/{number}" for number in range(50)), "/health"])
    assert seen.index("/health") < seen.index("/v1/1")


def test_one_that_leaves_while_it_waits_holds_up_nobody() -> None:
    began: list[str] = []

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        began.append(scope["path"])

    served = in_turn(application, for_path=bool)

    async def main() -> None:
        requests = [asyncio.create_task(served({"path": f"/{number}"}, None, None)) for number in range(4)]
        await asyncio.sleep(0)
        requests[1].cancel()
        await asyncio.gather(*requests, return_exceptions=True)

    asyncio.run(main())
    assert began == ["/0", "/2", "/3"]


def test_each_loop_has_turns_of_its_own() -> None:
    assert run(["/v1/a", "/v1/b"]).count("/v1/b") == run(["/v1/a", "/v1/b"]).count("/v1/b") == 1


def test_the_path_is_the_one_without_the_prefix_of_a_proxy() -> None:
    paths: list[str] = []

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None: ...

    served = in_turn(application, for_path=paths.append)
    asyncio.run(served({"path": "/sambung/v1/a", "root_path": "/sambung"}, None, None))
    assert paths == ["/v1/a"]


def test_those_that_wait_are_taken_in_turns_of_their_addresses() -> None:
    began: list[str] = []
    may_end = asyncio.Event()

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        began.append(scope["path"])
        if scope["path"].startswith("/first"):
            await may_end.wait()

    async def main() -> None:
        served = in_turn(application, for_path=bool)

        def ask(path: str, address: str) -> asyncio.Task[None]:
            return asyncio.create_task(served({"path": path, "client": (address, 1)}, None, None))

        requests = [ask(f"/first{number}", "192.0.2.1") for number in range(MAX_STARTING)]
        requests += [ask(f"/greedy{number}", "192.0.2.1") for number in range(50)]
        await asyncio.sleep(0)
        requests.append(ask("/other", "192.0.2.2"))
        await asyncio.sleep(0)
        may_end.set()
        await asyncio.gather(*requests)

    asyncio.run(main())
    assert len(began) == MAX_STARTING + 51
    assert began.index("/other") <= MAX_STARTING + 1


def test_what_waits_for_long_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("config.in_turn.MAX_SECONDS", 0.01)

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        began.append(scope["path"])
        await asyncio.Event().wait()

    began: list[str] = []

    async def main() -> None:
        served = in_turn(application, for_path=bool)
        requests = [asyncio.create_task(served({"path": f"/{n}"}, None, None)) for n in range(3 * MAX_STARTING)]
        while len(began) < len(requests):  # noqa: ASYNC110  (the test's own end is what it waits for)
            await asyncio.sleep(0.005)
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)

    asyncio.run(main())


def test_whoever_leaves_at_any_moment_leaves_its_place_to_others() -> None:
    async def main() -> None:
        semaphore = FairSemaphore()
        draw = random.Random(3)

        async def use(number: int) -> None:
            await semaphore.acquire(f"192.0.2.{number % 5}")
            try:
                await asyncio.sleep(0)
            finally:
                semaphore.release()

        tasks = [asyncio.create_task(use(number)) for number in range(300)]
        while not all(task.done() for task in tasks):
            draw.choice(tasks).cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert semaphore._free == MAX_STARTING
        assert not semaphore._waiting

    asyncio.run(main())
