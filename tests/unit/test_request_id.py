"""``X-Request-ID``: the caller's when it is harmless, else one of ours, in the response and on every log line."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import include, path
from pytest_django import Settings

from sessions_app.request_id import RequestIdFilter, RequestIdMiddleware, current_request_id, request_id_scope


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("broken inside")


#: for the tests that go through Django's whole chain; error pages link to the project's own
urlpatterns = [path("broken", broken), path("", include("config.urls"))]


def respond(given: str | None) -> tuple[str, str]:
    """The id that the view saw, and that of the response."""
    seen: list[str] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(current_request_id())
        return HttpResponse()

    headers = {} if given is None else {"X-Request-ID": given}
    response = RequestIdMiddleware(view)(RequestFactory().get("/", headers=headers))
    return seen[0], response["X-Request-ID"]  # type: ignore[index]


@pytest.mark.parametrize("given", ["a", "from-the-caller.1", "A:b_c-d", "x" * 100])
def test_a_harmless_id_is_taken(given: str) -> None:
    assert respond(given) == (given, given)


@pytest.mark.parametrize(
    "given", [None, "", "x" * 101, "a b", "a\nb", "a\r\nSet-Cookie: x", "<script>", "é", "a\0", "a\n"]
)
def test_any_other_is_replaced_by_one_of_ours(given: str | None) -> None:
    seen, sent = respond(given)
    assert seen == sent
    assert sent.startswith("req_")
    assert sent != respond(given)[1]


def test_an_async_chain_is_served_by_the_same_middleware() -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        await asyncio.sleep(0)
        return HttpResponse(current_request_id())

    async def both() -> list[HttpResponse]:
        middleware = RequestIdMiddleware(view)
        requests = [RequestFactory().get("/", headers={"X-Request-ID": f"r{n}"}) for n in range(2)]
        return await asyncio.gather(*(middleware(request) for request in requests))  # type: ignore[arg-type]

    for n, response in enumerate(asyncio.run(both())):
        assert response["X-Request-ID"] == response.content.decode() == f"r{n}"


def test_nothing_is_left_behind_by_a_request() -> None:
    respond("mine")
    assert current_request_id() == "-"


def test_a_view_that_raises_leaves_nothing_behind() -> None:
    def view(request: HttpRequest) -> HttpResponse:
        raise ValueError

    with pytest.raises(ValueError):
        RequestIdMiddleware(view)(RequestFactory().get("/"))
    assert current_request_id() == "-"


def test_work_done_later_for_a_request_carries_its_id() -> None:
    with request_id_scope("outer"):
        with request_id_scope(""):
            assert current_request_id() == "-"
        assert current_request_id() == "outer"


def test_every_log_line_has_the_id() -> None:
    record = logging.LogRecord("x", logging.INFO, "x", 1, "x", None, None)
    with request_id_scope("r1"):
        assert RequestIdFilter().filter(record)
    assert record.request_id == "r1"  # type: ignore[attr-defined]


def test_the_access_line_says_the_path_without_the_query(caplog: pytest.LogCaptureFixture) -> None:
    request = RequestFactory().get("/v1/models", {"last_event_id": "s:1"})
    with caplog.at_level(logging.INFO, "sambung.access"):
        RequestIdMiddleware(lambda request: HttpResponse(status=204))(request)
    assert "GET /v1/models 204" in caplog.text
    assert "last_event_id" not in caplog.text


@pytest.fixture
def bare_site(settings: Settings) -> Client:
    """A site of one view, behind the middleware alone."""
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = ["sessions_app.request_id.RequestIdMiddleware"]
    return Client(raise_request_exception=False)


def test_a_refusal_is_logged_once_and_with_its_id(bare_site: Client, logged: list[logging.LogRecord]) -> None:
    assert bare_site.get("/none", headers={"X-Request-ID": "r1"}).status_code == 404
    [record] = logged
    assert record.name == "sambung.access"
    assert record.request_id == "r1"  # type: ignore[attr-defined]


def test_the_traceback_of_a_failure_is_logged_once_and_with_its_id(
    bare_site: Client, logged: list[logging.LogRecord]
) -> None:
    assert bare_site.get("/broken", headers={"X-Request-ID": "r2"}).status_code == 500
    failure, access = logged
    assert failure.exc_info is not None
    assert "broken inside" in str(failure.exc_info[1])
    assert access.name == "sambung.access"
    assert access.levelno == logging.WARNING
    assert {record.request_id for record in logged} == {"r2"}  # type: ignore[attr-defined]


@pytest.fixture
def logged() -> Iterator[list[logging.LogRecord]]:
    """What the log's handler would write, with the ids that it would have."""
    records: list[logging.LogRecord] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    keeper = Keeper()
    keeper.addFilter(RequestIdFilter())
    root, access = logging.getLogger(), logging.getLogger("sambung.access")
    before = access.level
    root.addHandler(keeper)
    access.setLevel(logging.INFO)
    yield records
    access.setLevel(before)
    root.removeHandler(keeper)
