"""Addresses that are not served: clients of the API are told what there is, browsers get a page."""

from __future__ import annotations

import json

import pytest
from django.http import HttpResponse
from django.test import Client, RequestFactory

from inference.api.unserved import address_not_served, served_addresses

pytestmark = pytest.mark.django_db

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def ask(method: str, path: str, accept: str | None) -> HttpResponse:
    headers = {} if accept is None else {"accept": accept}
    response: HttpResponse = Client().generic(method, path, headers=headers)  # type: ignore[assignment]
    return response


def message_of(response: HttpResponse) -> str:
    assert response.status_code == 404
    error = json.loads(response.content)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("invalid_request_error", "not_found")
    return str(error["message"])


def test_what_is_served_is_what_the_document_describes() -> None:
    assert {"POST /v1/chat/completions", "GET /v1/models", "GET /health"} <= set(served_addresses())


@pytest.mark.parametrize("accept", ["application/json", "*/*", None, BROWSER])
def test_an_address_under_v1_says_what_was_asked_and_what_is_served(accept: str | None) -> None:
    message = message_of(ask("POST", "/v1/embeddings", accept))
    assert message.startswith("POST /v1/embeddings is not served here.")
    assert "POST /v1/chat/completions" in message


@pytest.mark.parametrize("accept", ["application/json", "*/*", None])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/chat/completions"), ("GET", "/models"), ("GET", "/models/"), ("POST", "/chat")]
)
def test_a_base_url_without_v1_is_told_so(method: str, path: str, accept: str | None) -> None:
    message = message_of(ask(method, path, accept))
    assert message.startswith(f"{method} {path} is not served here. The base URL must end in /v1.")


@pytest.mark.parametrize("path", ["/embeddings", "/api/chat", "/mod", "/completions"])
def test_an_address_that_v1_would_not_mend_is_not_sent_there(path: str) -> None:
    message = message_of(ask("POST", path, "application/json"))
    assert "must end in" not in message


@pytest.mark.parametrize("path", ["/chat/completions", "/models", "/nothing"])
def test_a_browser_gets_the_page(path: str) -> None:
    response = ask("GET", path, BROWSER)
    assert response.status_code == 404
    assert response["Content-Type"].startswith("text/html")


def test_a_base_url_that_ends_in_a_slash_is_told_so() -> None:
    request = RequestFactory().get("/")
    request.path_info = "//v1/models"
    assert "two slashes" in address_not_served(request).message


def test_a_very_long_address_is_quoted_in_part() -> None:
    assert len(message_of(ask("GET", "/v1/" + "x" * 5000, "application/json"))) < 1000


def test_a_page_that_finds_nothing_stays_a_page_for_programs_too() -> None:
    """Its address is served; what it names is not there."""
    response = ask("GET", "/ocr/00000000-0000-0000-0000-000000000000/", "*/*")
    assert not response["Content-Type"].startswith("application/json")
