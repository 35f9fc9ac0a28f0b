"""Handle requests to the API without a thread for each.

Django runs its synchronous parts in a thread that it starts for the request: the receivers of its signals, two
methods of each middleware, the close of the response. For a chat request that was a dozen hops, 3.4 of the 5.6 ms of
``GET /v1/models``. None of this waits for anything, so on the paths of the API it runs on the event loop; the parts
of the API that wait go through ``sessions_app.db.in_db``. Django raises an error for a database query made here.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import ThreadSensitiveContext

P = ParamSpec("P")
T = TypeVar("T")
Application = Callable[[dict[str, Any], Any, Any], Any]


class OnTheLoop(Executor):
    """Runs what is submitted immediately, on the running event loop, whose ``run_in_executor`` submits it."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:  # type: ignore[override]
        # The loop takes a future of its own as it is, and awaiting one that is done suspends nobody. A future of
        # ``concurrent.futures`` would cost a write to the loop's socket and an iteration, eighteen times a request.
        future: Future[T] = asyncio.get_running_loop().create_future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as exc:
            future.set_exception(exc)
        return future


def without_threads(application: Application, *, for_path: Callable[[str], object]) -> Application:
    """``application``; its requests to the paths for which ``for_path`` is true start no thread.

    Their views must be asynchronous. The path is the one that Django routes by, without the prefix of a proxy.
    """
    executor = OnTheLoop()

    async def run(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if not for_path(scope["path"].removeprefix(scope.get("root_path", ""))):
            await application(scope, receive, send)
            return
        async with ThreadSensitiveContext(executor=executor):
            await application(scope, receive, send)

    return run
