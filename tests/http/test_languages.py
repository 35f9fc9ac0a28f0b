"""Which language a page has, and who decides."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from config.models import UserLanguage

pytestmark = pytest.mark.django_db(transaction=True)

ENGLISH, INDONESIAN = "Log in", "Masuk"


def heading(client: Client, **headers: str) -> str:
    text = client.get("/accounts/login/", headers=headers).text
    return text.partition("<h1>")[2].partition("</h1>")[0]


def choose(client: Client, code: str) -> Any:
    return client.post("/language/", {"language": code, "next": "/accounts/login/"})


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("id-ID,id;q=0.9,en;q=0.5", INDONESIAN),
        ("en-GB,en;q=0.9,id;q=0.5", ENGLISH),
        ("jv,id;q=0.8", INDONESIAN),
        ("fr", ENGLISH),
        ("", ENGLISH),
        ("*;q=x,\x00", ENGLISH),
    ],
)
def test_a_stranger_reads_what_the_browser_accepts(accepted: str, expected: str) -> None:
    assert heading(Client(), accept_language=accepted) == expected


def test_the_page_says_which_language_it_is_in_and_offers_the_other() -> None:
    response = Client().get("/accounts/login/", headers={"accept-language": "id"})
    assert response["Content-Language"] == "id"
    assert '<html lang="id">' in response.text
    assert 'value="en" lang="en">English<' in response.text
    assert "Bahasa Indonesia" not in response.text


def test_a_choice_holds_for_the_browser() -> None:
    client = Client()
    choose(client, "id")
    assert heading(client, accept_language="en") == INDONESIAN


def test_a_choice_holds_for_the_user_in_every_browser() -> None:
    user = User.objects.create_user("clerk", password="secret")
    client = Client()
    client.force_login(user)
    choose(client, "id")
    elsewhere = Client(headers={"accept-language": "en"})
    elsewhere.post("/accounts/login/", {"username": "clerk", "password": "secret"})
    assert heading(elsewhere) == INDONESIAN


def test_a_user_without_a_choice_keeps_what_the_browser_chose() -> None:
    User.objects.create_user("clerk", password="secret")
    client = Client()
    choose(client, "id")
    client.post("/accounts/login/", {"username": "clerk", "password": "secret"})
    assert heading(client, accept_language="en") == INDONESIAN


@pytest.mark.parametrize("code", ["xx", "", "id\x00", "../id"])
def test_a_language_that_there_is_not_changes_nothing(code: str) -> None:
    user = User.objects.create_user("clerk")
    client = Client()
    client.force_login(user)
    assert choose(client, code).status_code == 302
    assert heading(client, accept_language="id") == INDONESIAN
    assert not UserLanguage.objects.exists()


def test_choosing_leads_nowhere_else() -> None:
    response = Client().post("/language/", {"language": "id", "next": "https://elsewhere.example/"})
    assert (response.status_code, response["Location"]) == (302, "/")
    assert Client().get("/language/").status_code == 405


def test_a_missing_page_is_in_the_readers_language() -> None:
    response = Client().get("/nothing-here", headers={"accept": "text/html", "accept-language": "id"})
    assert response.status_code == 404
    assert "Tidak ditemukan" in response.text
    assert "Not found" not in response.text


def test_the_api_speaks_english_whatever_the_caller_accepts() -> None:
    client = Client(headers={"accept-language": "id"})
    client.get("/accounts/login/")
    response = client.get("/v1/nothing")
    assert response.status_code == 404
    assert "Content-Language" not in response
    assert "Accept-Language" not in response.get("Vary", "")


def test_a_password_is_changed_on_a_page_of_the_site_and_cannot_be_reset_by_a_stranger() -> None:
    user = User.objects.create_user("clerk", password="an old secret")
    client = Client(headers={"accept-language": "id"})
    client.force_login(user)
    page = client.get("/accounts/password/")
    assert "site.css" in page.text
    answers = {"old_password": "an old secret", "new_password1": "kata-sandi-baru", "new_password2": "kata-sandi-baru"}
    assert "Kata sandi sudah diganti" in client.post("/accounts/password/", answers, follow=True).text
    user.refresh_from_db()
    assert user.check_password("kata-sandi-baru")
    assert Client().get("/accounts/password_reset/").status_code == 404
