"""Wrong passwords are limited, and who is locked out is told until when."""

from __future__ import annotations

import asyncio
import datetime
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import connections
from django.db.models import Sum
from django.http import HttpResponse
from django.test import AsyncClient, Client

from config import log_ins
from ocr.groups import reset_groups

pytestmark = pytest.mark.django_db(transaction=True)

PAGES = ("/accounts/login/", "/admin/login/")
LIMIT = settings.AXES_FAILURE_LIMIT


@pytest.fixture(autouse=True)
def people() -> None:
    User.objects.create_user("clerk", password="right")
    User.objects.create_superuser("operator", password="right")


def log_in(
    name: str,
    password: str,
    *,
    page: str = PAGES[0],
    address: str = "127.0.0.1",
    agent: str = "a browser",
    via: str = "",
) -> HttpResponse:
    headers = {"User-Agent": agent} | ({"X-Forwarded-For": via} if via else {})
    response: Any = Client(headers=headers).post(page, {"username": name, "password": password}, REMOTE_ADDR=address)
    return response


def let_time_pass(**time: float) -> None:
    for attempt in AccessAttempt.objects.all():
        attempt.attempt_time -= datetime.timedelta(**time)
        attempt.save()


@pytest.mark.parametrize("page", PAGES)
def test_after_some_wrong_passwords_the_right_one_is_refused_too_and_the_page_says_until_when(page: str) -> None:
    answers = [log_in("operator", f"wrong {n}", page=page).status_code for n in range(25)]
    assert answers == [200] * (LIMIT - 1) + [429] * (26 - LIMIT)

    locked = log_in("operator", "right", page=page)

    assert locked.status_code == 429
    assert 0 < int(locked["Retry-After"]) <= settings.AXES_COOLOFF_TIME.total_seconds()
    assert "no-store" in locked["Cache-Control"]
    minutes = settings.AXES_COOLOFF_TIME.total_seconds() // 60
    for text in ("Try again at", f"in {minutes:.0f} minutes"):
        assert text in locked.text
    assert "right" not in locked.cookies


def test_who_waits_may_try_again_and_is_not_made_to_wait_longer_for_trying() -> None:
    for n in range(2 * LIMIT):
        log_in("clerk", f"wrong {n}")
    assert AccessAttempt.objects.get().failures_since_start == LIMIT
    let_time_pass(minutes=14)
    assert log_in("clerk", "right").status_code == 429
    let_time_pass(minutes=2)
    assert log_in("clerk", "right").status_code == 302


def test_the_right_password_starts_the_count_anew() -> None:
    for _ in range(3):
        for n in range(LIMIT - 1):
            assert log_in("clerk", f"wrong {n}").status_code == 200
        assert log_in("clerk", "right").status_code == 302


def test_another_person_at_another_address_is_not_locked_out() -> None:
    for n in range(2 * LIMIT):
        log_in("clerk", f"wrong {n}")
    assert log_in("operator", "right").status_code == 302
    assert log_in("clerk", "right", address="203.0.113.7").status_code == 302


def test_many_names_from_one_address_are_limited_whatever_the_browser_calls_itself() -> None:
    answers = [log_in(f"name {n}", "wrong", agent=f"browser {n}").status_code for n in range(25)]
    limit = LIMIT * log_ins.WIDER_LIMIT
    assert answers == [200] * (limit - 1) + [429] * (26 - limit)
    assert log_in("clerk", "right").status_code == 429
    assert log_in("clerk", "right", address="203.0.113.7").status_code == 302


def test_one_name_from_many_addresses_is_limited() -> None:
    answers = [log_in("clerk", "wrong", address=f"203.0.113.{n}").status_code for n in range(25)]
    limit = LIMIT * log_ins.WIDER_LIMIT
    assert answers == [200] * (limit - 1) + [429] * (26 - limit)


def test_the_addresses_of_one_ipv6_network_are_one() -> None:
    answers = [log_in("clerk", "wrong", address=f"2001:db8::{n}").status_code for n in range(1, LIMIT + 2)]
    assert answers == [200] * (LIMIT - 1) + [429] * 2


def test_a_header_of_the_clients_own_changes_nothing_but_a_trusted_proxys_does(settings: Any) -> None:
    def fail(n: int) -> int:
        return log_in("clerk", "wrong", via=f"198.51.100.{n}").status_code

    assert [fail(n) for n in range(LIMIT)][-1] == 429
    settings.TRUSTED_PROXIES = ["127.0.0.1"]
    assert fail(1) == 200
    assert log_in("clerk", "right", via="198.51.100.2").status_code == 302


def test_passwords_tried_at_the_same_time_are_not_one_more() -> None:
    def fail(n: int) -> int:
        try:
            return log_in("clerk", f"wrong {n}").status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(max_workers=12) as threads:
        answers = list(threads.map(fail, range(12)))
    assert sorted(answers) == [200] * (LIMIT - 1) + [429] * (13 - LIMIT)
    assert AccessAttempt.objects.aggregate(Sum("failures_since_start")) == {"failures_since_start__sum": LIMIT}


def test_it_is_the_same_for_a_server_that_runs_an_event_loop() -> None:
    async def answers() -> list[Any]:
        data = {"username": "clerk", "password": "wrong"}
        try:
            return [await AsyncClient().post(PAGES[0], data) for _ in range(LIMIT)]
        finally:
            await sync_to_async(connections.close_all)()

    *_, last = asyncio.run(answers())
    assert last.status_code == 429
    assert "Try again at" in last.text


def test_neither_password_nor_name_stay_in_the_log_or_in_what_the_form_sent(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(LIMIT):
        log_in("Hunter2!", "Hunter3!")
    attempt = AccessAttempt.objects.get()
    assert "Hunter" not in attempt.post_data + attempt.get_data
    assert "127.0.0.1" in caplog.text
    assert "Hunter" not in caplog.text


def test_an_operator_sees_who_is_locked_out_and_lets_them_in_again() -> None:
    for _ in range(LIMIT):
        log_in("clerk", "wrong")
    client = Client()
    client.force_login(User.objects.get(username="operator"))
    assert "Locked Out" in client.get("/admin/axes/accessattempt/").text
    attempt = AccessAttempt.objects.get()
    assert client.get(f"/admin/axes/accessattempt/{attempt.pk}/change/").status_code == 200
    client.post(f"/admin/axes/accessattempt/{attempt.pk}/delete/", {"post": "yes"})
    assert log_in("clerk", "right").status_code == 302


@pytest.mark.parametrize(
    ("group", "columns", "place"),
    [
        ("Clerk", {}, "/ocr/"),
        ("Reviewer", {"is_staff": True}, "/admin/ocr/review/"),
        ("Operator", {"is_staff": True}, "/admin/"),
        ("Auditor", {"is_staff": True}, "/admin/"),
        (None, {"is_staff": True, "is_superuser": True}, "/admin/"),
        (None, {}, "/ocr/"),
    ],
)
def test_each_role_lands_where_it_works(client: Client, group: str | None, columns: dict[str, Any], place: str) -> None:
    reset_groups()
    user = User.objects.create_user("somebody", password="correct-horse", **columns)
    if group:
        user.groups.add(Group.objects.get(name=group))
    form = {"username": "somebody", "password": "correct-horse"}

    assert client.post("/accounts/login/", form)["Location"] == place
    assert client.post("/accounts/login/?next=/ocr/", {**form, "next": "/ocr/"})["Location"] == "/ocr/"
