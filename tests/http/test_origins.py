"""Which web pages may call the API: of a server without keys, those of its own machine."""

from __future__ import annotations

import json
from asyncio import run
from typing import Any

import pytest
from django.conf import settings
from django.test import AsyncClient, Client

from ocr.models import KtpExtraction
from sessions_app.models import ChatSession
from sessions_app.origins import is_own_origin
from tests.db.ktp_cards import specimen

pytestmark = pytest.mark.django_db(transaction=True)

FOREIGN = [
    "https://evil.example",
    "http://evil.example:3000",
    "null",
    "http://localhost.evil.example",
    "http://127.0.0.1.evil.example",
    "http://evil-localhost",
    "http://localhost:3000@evil.example",
    "http://127.0.0.1:3000.evil.example",
    "http://128.0.0.1",
    "http://192.168.1.5:3000",
    "http://[::2]",
    "http://[",
    "file://",
    "localhost",
    "x" * 5000,
]
LOCAL = [
    "http://localhost",
    "http://localhost:5173",
    "https://localhost:8443",
    "http://127.0.0.1:8080",
    "http://127.1.2.3",
    "http://[::1]:3000",
]


def ask(method: str, path: str, data: Any = b"", content_type: str = "application/json", **headers: str) -> Any:
    async def answer() -> Any:
        return await AsyncClient().generic(method, path, data, content_type, headers=headers)

    # Django's client for an event loop adds a host name to its own, and does not replace it.
    return Client().generic(method, path, data, content_type, headers=headers) if "host" in headers else run(answer())


def assert_refused(response: Any, origin: str) -> None:
    error = json.loads(response.content)["error"]
    assert (response.status_code, error["code"]) == (403, "origin_not_allowed")
    assert "CORS_ALLOWED_ORIGINS" in error["message"]
    assert origin[:100] in error["message"]
    assert len(error["message"]) < 400
    assert "Access-Control-Allow-Origin" not in response
    assert "origin" in response["Vary"].lower()


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_page_of_another_site_may_ask_for_nothing(origin: str) -> None:
    for path in ("/v1/models", "/v1/models/tiny", "/v1/sessions/x/events", "/health", "/openapi.json", "/v1/none"):
        assert_refused(ask("GET", path, origin=origin), origin)
    assert_refused(Client().get("/v1/models", headers={"Origin": origin}), origin)


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "application/x-www-form-urlencoded"])
def test_a_page_of_another_site_starts_no_generation(origin: str, content_type: str) -> None:
    body = b'{"messages": [{"role": "user", "content": "x"}], "stream": true}'
    assert_refused(ask("POST", "/v1/chat/completions", body, content_type, origin=origin), origin)
    assert_refused(ask("POST", "/v1/cancel/x", b"", content_type, origin=origin), origin)
    assert not ChatSession.objects.exists()


@pytest.mark.parametrize("path", ["/ktp-ocr", "/ktp-ocr/"])
def test_a_form_of_another_site_has_no_card_read(path: str) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n' + specimen() + b"\r\n--x--\r\n"
    )
    asked = ask("POST", path, body, "multipart/form-data; boundary=x", origin="https://evil.example")
    assert_refused(asked, "https://evil.example")
    assert not KtpExtraction.objects.exists()


def preflight(origin: str) -> Any:
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "content-type,authorization"}
    return ask("OPTIONS", "/v1/chat/completions", origin=origin, **asks)


def test_a_browser_that_asks_first_is_told_the_same() -> None:
    assert_refused(preflight("https://evil.example"), "https://evil.example")


@pytest.mark.parametrize("origin", LOCAL)
def test_a_page_of_this_machine_may_call(origin: str) -> None:
    asked = preflight(origin)
    assert asked.status_code == 200
    assert asked["Access-Control-Allow-Origin"] == origin
    assert "authorization" in asked["Access-Control-Allow-Headers"]
    answer = ask("GET", "/v1/models", origin=origin)
    assert answer.status_code == 200
    assert answer["Access-Control-Allow-Origin"] == origin
    assert "Access-Control-Allow-Credentials" not in answer


def test_what_is_no_page_names_no_origin_and_passes() -> None:
    assert ask("GET", "/v1/models").status_code == 200
    assert ask("GET", "/health").status_code == 200


@pytest.mark.parametrize(
    ("host", "origin", "more"),
    [
        ("ai.example.org", "http://ai.example.org", {}),
        ("ai.example.org", "https://ai.example.org", {}),
        ("ai.example.org:8443", "https://ai.example.org:8443", {}),
        ("ai.example.org:443", "https://ai.example.org", {}),
        # a proxy that passes a host name of its own on
        ("localhost:3000", "https://ai.example.org", {"sec-fetch-site": "same-origin"}),
        ("localhost:3000", "https://trusted.example.org", {}),
        ("localhost:3000", "https://a.sub.example.org", {}),
    ],
)
def test_the_servers_own_pages_may_call_by_whatever_name_it_goes(
    monkeypatch: pytest.MonkeyPatch, host: str, origin: str, more: dict[str, str]
) -> None:
    monkeypatch.setattr(settings, "ALLOWED_HOSTS", ["ai.example.org", "localhost"])
    monkeypatch.setattr(settings, "CSRF_TRUSTED_ORIGINS", ["https://trusted.example.org", "https://*.sub.example.org"])
    assert ask("GET", "/v1/models", host=host, origin=origin, **more).status_code == 200


@pytest.mark.parametrize(
    ("host", "origin", "more"),
    [
        ("ai.example.org", "http://ai.example.org:8080", {}),
        ("ai.example.org", "https://sub.ai.example.org", {"sec-fetch-site": "same-site"}),
        ("localhost:3000", "https://ai.example.org", {}),
        ("localhost:3000", "https://evil.example", {"sec-fetch-site": "cross-site"}),
        ("localhost:3000", "http://trusted.example.org", {}),
    ],
)
def test_other_pages_of_the_host_are_foreign(
    monkeypatch: pytest.MonkeyPatch, host: str, origin: str, more: dict[str, str]
) -> None:
    monkeypatch.setattr(settings, "ALLOWED_HOSTS", ["ai.example.org", "localhost"])
    monkeypatch.setattr(settings, "CSRF_TRUSTED_ORIGINS", ["https://trusted.example.org"])
    assert_refused(ask("GET", "/v1/models", host=host, origin=origin, **more), origin)


def test_a_name_that_was_made_to_lead_here_is_refused_though_the_page_is_of_the_same_name() -> None:
    for origin in ({}, {"origin": "http://evil.example:3000", "sec-fetch-site": "same-origin"}):
        refused = ask("GET", "/v1/models", host="evil.example:3000", **origin)
        assert json.loads(refused.content)["error"]["code"] == "host_not_allowed"


def test_the_origins_of_the_setting_may_call_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "CORS_ALLOWED_ORIGINS", ["https://app.example", "app://chat"])
    monkeypatch.setattr(settings, "CORS_ALLOWED_ORIGIN_REGEXES", [])
    for origin in ("https://app.example", "app://chat"):
        assert ask("GET", "/v1/models", origin=origin)["Access-Control-Allow-Origin"] == origin
    for origin in ("https://app.example:444", "http://app.example", "http://localhost:5173", "null"):
        assert_refused(ask("GET", "/v1/models", origin=origin), origin)


@pytest.mark.parametrize("origin", [*FOREIGN, *LOCAL])
def test_a_star_opens_the_api_to_all_pages(monkeypatch: pytest.MonkeyPatch, origin: str) -> None:
    monkeypatch.setattr(settings, "CORS_ALLOW_ALL_ORIGINS", True)
    assert ask("GET", "/v1/models", origin=origin).status_code == 200


def test_pages_are_not_the_api() -> None:
    assert Client().get("/accounts/login/", headers={"Origin": "https://evil.example"}).status_code == 200


@pytest.mark.parametrize(
    ("origin", "host", "is_secure", "is_own"),
    [
        ("http://a.example", "a.example", False, True),
        ("https://a.example", "a.example", False, True),
        ("https://a.example", "a.example", True, True),
        ("http://a.example", "a.example", True, False),
        ("http://a.example:80", "a.example", False, True),
        ("http://[::1]:3000", "[::1]:3000", False, True),
        ("http://[::1]:3000", "[::1]:3001", False, False),
        ("http://a.example:3000", "a.example", False, False),
        ("ws://a.example", "a.example", False, False),
        ("null", "null", False, False),
        ("", "", False, False),
        ("http://", "", False, False),
        ("http://a.example:99999", "a.example", False, False),
        ("http://a.example", "a.example:x", False, False),
    ],
)
def test_an_origin_is_a_scheme_a_host_and_a_port(origin: str, host: str, is_secure: bool, is_own: bool) -> None:
    assert is_own_origin(origin, host=host, is_secure=is_secure) is is_own
