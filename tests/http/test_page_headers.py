"""What a browser is told of every page and of every answer of the API."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.test import Client

from ocr.models import KtpExtraction
from tests.db.ktp_cards import read_extraction, specimen
from tests.db.session_states import completed

pytestmark = pytest.mark.django_db(transaction=True)

PUBLIC_PAGES = ["/", "/docs", "/accounts/login/", "/admin/login/", "/admin/", "/ocr/", "/none", "/static/icon.svg"]


def policy_of(response: Any) -> dict[str, list[str]]:
    directives = [directive.split() for directive in response["Content-Security-Policy"].split(";")]
    return {name: sources for name, *sources in directives}


def assert_guarded(response: Any) -> None:
    policy = policy_of(response)
    assert policy["default-src"] == ["'none'"]
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["form-action"] == ["'self'"]
    assert policy["frame-ancestors"] == policy["base-uri"] == ["'none'"]
    assert "unsafe" not in response["Content-Security-Policy"]
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Referrer-Policy"] == "same-origin"
    permissions = response["Permissions-Policy"].split(", ")
    assert "camera=(self)" in permissions
    assert {"geolocation=()", "microphone=()"} <= set(permissions)


@pytest.mark.parametrize("path", PUBLIC_PAGES)
def test_every_page_says_what_it_may_load_and_who_may_frame_it(path: str) -> None:
    with contextlib.closing(Client().get(path)) as response:
        assert_guarded(response)


def test_so_do_the_pages_behind_the_log_in() -> None:
    admin = User.objects.create_superuser("admin")
    client = Client()
    client.force_login(admin)
    reading, session = read_extraction(admin), completed()
    for path in (
        "/ocr/",
        f"/ocr/{reading.pk}/",
        "/admin/",
        f"/admin/ocr/ktpextraction/{reading.pk}/change/",
        f"/admin/sessions_app/chatsession/{session.pk}/change/",
        "/admin/sessions_app/chatsession/",
    ):
        response = client.get(path)
        assert response.status_code == 200
        assert_guarded(response)
        assert "no-store" in response["Cache-Control"]
    # A picture of a stranger's has a stricter policy of its own.
    assert "sandbox" in client.get(f"/ocr/{reading.pk}/image/")["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/none", "/v1/sessions/none/events", "/health", "/ktp-ocr/"])
def test_no_answer_of_the_api_is_kept(path: str) -> None:
    assert Client().get(path)["Cache-Control"] == "no-store"


def test_no_reading_is_kept_and_no_refusal_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "OCR_TIMEOUT_SECONDS", 0.05)
    late = Client().post("/ktp-ocr/", {"image": ContentFile(specimen(), name="card.jpg")})
    assert (late.status_code, late["Cache-Control"]) == (504, "no-store")
    events = Client().get(f"/v1/sessions/{KtpExtraction.objects.get().session_id}/events")
    assert "no-store" in events["Cache-Control"]
    refused = Client().post("/ktp-ocr/", {})
    assert (refused.status_code, refused["Cache-Control"]) == (400, "no-store")


def test_error_pages_for_developers_keep_their_style(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "DEBUG", True)
    assert "Content-Security-Policy" not in Client().get("/none")
    assert "Content-Security-Policy" in Client().get("/")
