"""Requests of one moment begin one after the other, and the loop looks at everything else in between."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from config.in_turn import in_turn


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
