"""Middleware that is written once: what happens around the rest of a chain of either kind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from sessions_app.middleware import Middleware, Steps


def view(request: HttpRequest) -> HttpResponse:
    if request.path == "/broken":
        raise LookupError
    return HttpResponse("of the view")


async def async_view(request: HttpRequest) -> HttpResponse:
    return view(request)


class Recorder(Middleware):
    """Answers some addresses itself and writes down what it does."""

    def around(self, request: HttpRequest) -> Steps:
        self.done = ["before"]
        try:
            if request.path == "/mine":
                return HttpResponse("of the middleware")
            if request.path == "/coroutine":
                return async_view(request)
            response = yield
            response.headers["X-Seen"] = "yes"
            return response
        finally:
            self.done.append("after")


def called_sync(path: str) -> tuple[HttpResponseBase, Recorder]:
    middleware = Recorder(view)
    return middleware(request_to(path)), middleware  # type: ignore[return-value]


def called_async(path: str) -> tuple[HttpResponseBase, Recorder]:
    middleware = Recorder(async_view)
    is_async = iscoroutinefunction(middleware)
    assert is_async
    return asyncio.run(middleware(request_to(path))), middleware  # type: ignore[arg-type]


def request_to(path: str) -> HttpRequest:
    request = HttpRequest()
    request.path = path
    return request


Call = Callable[[str], tuple[Any, Recorder]]
both = pytest.mark.parametrize("call", [called_sync, called_async])


@both
def test_it_runs_before_and_after_the_view(call: Call) -> None:
    response, middleware = call("/")
    assert (response.content, response.headers["X-Seen"]) == (b"of the view", "yes")
    assert middleware.done == ["before", "after"]


@both
@pytest.mark.parametrize(("path", "content"), [("/mine", b"of the middleware"), ("/coroutine", b"of the view")])
def test_what_it_returns_without_a_yield_is_the_answer(call: Call, path: str, content: bytes) -> None:
    response, _ = call(path)
    assert response.content == content
    assert "X-Seen" not in response.headers


@pytest.mark.parametrize("chain", [view, async_view])
def test_a_view_that_raises_ends_what_it_has_begun(chain: Any) -> None:
    middleware = Recorder(chain)
    with pytest.raises(LookupError):
        answer = middleware(request_to("/broken"))
        asyncio.run(answer)  # type: ignore[arg-type]
    assert middleware.done == ["before", "after"]


def test_a_request_that_is_cancelled_ends_what_it_has_begun() -> None:
    async def waits(request: HttpRequest) -> HttpResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async def main() -> list[str]:
        middleware = Recorder(waits)
        task = asyncio.ensure_future(middleware(request_to("/")))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return middleware.done

    assert asyncio.run(main()) == ["before", "after"]
