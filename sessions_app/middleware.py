"""Middleware that is written once and runs in Django's asynchronous chain and in its synchronous one."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Generator
from typing import cast

from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

Handler = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]
#: yields once, for the response of the rest of the chain, and returns the response to send. If it returns without a
#: yield, its return value is sent and the rest is not called; the value may be the coroutine of a view.
Steps = Generator[None, HttpResponseBase, HttpResponseBase | Awaitable[HttpResponseBase]]


class Middleware:
    """A subclass says in ``around`` what happens before and after the rest of the chain. It must not block."""

    async_capable = True
    sync_capable = True

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def around(self, request: HttpRequest) -> Steps:
        raise NotImplementedError

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._acall(request)
        # Closed here, so that a context that ``around`` has entered ends with the request when the view raises.
        with contextlib.closing(self.around(request)) as steps:
            answer = _begin(steps)
            if answer is None:
                answer = _end(steps, cast("HttpResponseBase", self.get_response(request)))
            return answer if isinstance(answer, HttpResponseBase) else async_to_sync(_awaited)(answer)

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        with contextlib.closing(self.around(request)) as steps:
            answer = _begin(steps)
            if answer is None:
                answer = _end(steps, await cast("Awaitable[HttpResponseBase]", self.get_response(request)))
            return answer if isinstance(answer, HttpResponseBase) else await answer


def _begin(steps: Steps) -> HttpResponseBase | Awaitable[HttpResponseBase] | None:
    """The answer in place of the rest of the chain, if there is one."""
    try:
        next(steps)
    except StopIteration as end:
        return cast("HttpResponseBase | Awaitable[HttpResponseBase]", end.value)
    return None


def _end(steps: Steps, response: HttpResponseBase) -> HttpResponseBase | Awaitable[HttpResponseBase]:
    try:
        steps.send(response)
    except StopIteration as end:
        return cast("HttpResponseBase | Awaitable[HttpResponseBase]", end.value)
    raise RuntimeError("a middleware yields once")


async def _awaited(answer: Awaitable[HttpResponseBase]) -> HttpResponseBase:
    return await answer
