"""On the paths of the API, what Django would send to a thread runs where the request runs."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from config.on_the_loop import without_threads
from inference.api.paths import is_served_on_the_loop


def thread_of_request(path: str, *, root_path: str = "", work: Any = threading.get_ident) -> Any:
    """What ``work`` gives in a request for ``path``, called as Django calls its middleware."""
    given: list[Any] = []

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        given.append(await sync_to_async(work, thread_sensitive=True)())

    asyncio.run(
        without_threads(application, for_path=is_served_on_the_loop)({"path": path, "root_path": root_path}, None, None)
    )
    return given[0]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/cancel/a", "/ktp-ocr", "/ktp-ocr/", "/health"])
def test_a_request_to_the_api_has_no_thread_of_its_own(path: str) -> None:
    assert thread_of_request(path) == threading.get_ident()


@pytest.mark.parametrize("path", ["/", "/admin/", "/ocr/", "/openapi.json", "/docs", "/v1", "/healthy", "/a/v1/models"])
def test_a_page_has_one_as_django_gives_it(path: str) -> None:
    assert thread_of_request(path) != threading.get_ident()


def test_the_prefix_of_a_proxy_makes_no_page_of_the_api_and_no_api_of_a_page() -> None:
    assert thread_of_request("/sambung/v1/models", root_path="/sambung") == threading.get_ident()
    # A client may send such a header, too: Django would route this one to the page with the schema.
    assert thread_of_request("/v1/openapi.json", root_path="/v1") != threading.get_ident()


def test_an_error_comes_through() -> None:
    def fail() -> None:
        raise ValueError("as it was")

    with pytest.raises(ValueError, match="as it was"):
        thread_of_request("/v1/models", work=fail)


def test_a_query_that_strays_in_is_refused() -> None:
    from django.core.exceptions import SynchronousOnlyOperation
    from django.utils.asyncio import async_unsafe

    with pytest.raises(SynchronousOnlyOperation):
        thread_of_request("/v1/models", work=async_unsafe(lambda: None))


def test_what_runs_on_the_loop_suspends_nobody() -> None:
    """A dozen such calls a request would otherwise each wait for an iteration of the loop."""
    between: list[str] = []

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        asyncio.get_running_loop().call_soon(between.append, "an iteration")
        for _ in range(12):
            await sync_to_async(threading.get_ident, thread_sensitive=True)()
        assert between == []
        await asyncio.sleep(0)
        assert between == ["an iteration"]

    asyncio.run(without_threads(application, for_path=is_served_on_the_loop)({"path": "/v1/models"}, None, None))
    assert between == ["an iteration"]
