"""What every page of the admin has: a menu, breadcrumbs, lists whose cells name their columns, one zone of time."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from inference.models import ModelWorker
from tests.db.session_states import completed

pytestmark = pytest.mark.django_db

SESSIONS = "/admin/sessions_app/chatsession/"


@pytest.fixture
def operator() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    return client


def page(client: Client, address: str) -> str:
    response = client.get(address)
    assert response.status_code == 200, address
    return response.content.decode()


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html)).strip()


def crumbs(client: Client, address: str) -> str:
    [inside] = re.findall(r'<div class="breadcrumbs">(.*?)</div>', page(client, address), re.DOTALL)
    return words(inside)


def test_breadcrumbs_lead_from_the_front_page_to_the_list_to_the_row(operator: Client) -> None:
    session = completed()
    assert crumbs(operator, SESSIONS) == "Now › Sessions"
    assert crumbs(operator, f"{SESSIONS}{session.pk.replace('_', '_5F')}/change/") == f"Now › Sessions › {session}"
    user = f"/admin/auth/user/{User.objects.get().pk}"
    assert crumbs(operator, f"{user}/history/") == "Now › Users › operator › History"
    assert crumbs(operator, f"{user}/delete/") == "Now › Users › operator › Delete"
    assert crumbs(operator, f"{user}/password/").startswith("Now › Users › operator › ")
    assert crumbs(operator, "/admin/auth/user/add/") == "Now › Users › Add user"
    assert crumbs(operator, "/admin/auth/").startswith("Now › ")
    chunks = f"/admin/sessions_app/chunk/?session__id__exact={session.pk}"
    assert crumbs(operator, chunks) == f"Now › Sessions › {session.pk} › Chunks"


def test_the_menu_marks_the_list_that_is_shown(operator: Client) -> None:
    [inside] = re.findall(r'<nav id="site-menu".*?</nav>', page(operator, "/admin/inference/modelworker/"), re.DOTALL)
    assert [words(link) for link in re.findall(r'<a [^>]*aria-current="page">.*?</a>', inside)] == ["Workers"]


def test_the_menu_has_what_its_reader_may_open() -> None:
    client = Client()
    client.force_login(User.objects.create_user("nobody", is_staff=True))
    [inside] = re.findall(r'<nav id="site-menu".*?</nav>', page(client, "/admin/"), re.DOTALL)
    assert words(inside) == "Now"


def test_each_cell_of_a_list_names_its_column(operator: Client) -> None:
    ModelWorker.objects.create(name="<gpu>", model="tiny")
    html = page(operator, "/admin/inference/modelworker/")
    [row] = re.findall(r"<tbody>.*</tbody>", html, re.DOTALL)
    labels = re.findall(r'<t[dh] class="field-\w+[^"]*" data-label="([^"]*)">', row)
    assert labels == [words(head) for head in re.findall(r'<div class="text">(.*?)</div>', html, re.DOTALL)[1:]]
    assert "&lt;gpu&gt;" in row


@pytest.mark.parametrize("model", ["sessions_app/chatsession", "inference/modelworker", "auth/user"])
def test_results_are_counted_after_a_search_alone(operator: Client, model: str) -> None:
    assert "Show all" not in page(operator, f"/admin/{model}/")
    assert "Show all" in page(operator, f"/admin/{model}/?q=x")


def test_the_zone_of_the_times_is_named_once(operator: Client, settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Jakarta"
    assert page(operator, SESSIONS).count("Asia/Jakarta") == 1
    assert "Times are in Asia/Jakarta (WIB)." in page(operator, SESSIONS)


def test_when_a_user_was_made_and_logged_in_is_shown_and_not_changed(operator: Client) -> None:
    html = page(operator, f"/admin/auth/user/{User.objects.get().pk}/change/")
    assert "field-date_joined" in html
    assert not re.search(r'<input[^>]*name="(date_joined|last_login)', html)
