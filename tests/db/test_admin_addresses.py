"""Whatever stands in an address of the admin: never a failure, and never a stack trace for a refusal."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.admin_site import ALLOWED_SUFFIXES
from inference.models import ModelWorker
from ocr.models import KtpExtraction
from sessions_app.models import ChatSession, Chunk
from tests.db.ktp_cards import reading_extraction
from tests.db.session_states import completed

pytestmark = [
    pytest.mark.django_db(transaction=True),
    # A date without a zone in a filter is taken to be of the server's.
    pytest.mark.filterwarnings("ignore:DateTimeField .* received a naive datetime:RuntimeWarning"),
]

#: too large for every column, for C, for a date; of another kind; and what breaks parsers
VALUES = (
    *("", "0", "1", "-1", "1.5", "1e999", "nan", "99999", "2147483648", "9223372036854775808", "9" * 400),
    *("\0", "a\0b", "(", "[", "*", "%", "\\", "'", '"; drop', "x" * 20_000, "\u202e", "\U0001f642", "\ufffd", "\n"),
    *("2026-13-45", "0000-00-00", "99999-01-01", "9999-12-31T23:59:59Z", "true", "None", "[]", "{}", "__all__"),
)
LOOKUPS = (
    *("exact", "iexact", "contains", "regex", "iregex", "in", "range", "isnull", "gt", "gte", "lt", "startswith"),
    *("year", "month", "date", "time", "week_day", "id__exact", "pk", "nothing", "contained_by", "has_key"),
)
#: names that the admin knows, beside the fields
PARAMETERS = (
    "q",
    "p",
    "o",
    "e",
    "all",
    "_popup",
    "_to_field",
    "_changelist_filters",
    "_facets",
    "pop",
    "next",
    "action",
)
MODELS = (ChatSession, Chunk, ModelWorker, KtpExtraction, User)


def sign_in(user: User) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


@pytest.fixture
def superuser() -> Client:
    return sign_in(User.objects.create_superuser("root"))


@pytest.fixture
def viewer() -> Client:
    """May look at what there is, and no more."""
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    return sign_in(user)


@pytest.fixture
def session() -> ChatSession:
    """One row of every model."""
    ModelWorker.objects.create(name="host:1:a", model="tiny", state="ready")
    reading_extraction()
    return completed()


def changelist(model: type[Model]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def refused(client: Client, url: str) -> str | None:
    """What is wrong with the answer to a GET, None when nothing is."""
    response = client.get(url)
    for _ in range(3):
        if response.status_code not in (301, 302):
            break
        response = client.get(response["Location"])
    if response.status_code in (200, 400, 403, 404, 405):
        return None
    return f"{url[:200]} → {response.status_code}"


def pairs(names: Iterable[str], values: Sequence[str], count: int) -> Iterator[str]:
    """Queries of so many names and values: every name and every value is among them, not every pair."""
    names = list(names)
    for number in range(count):
        yield urlencode({names[number % len(names)]: values[(number * 7) % len(values)]})


def queries(model: type[Model]) -> Iterator[str]:
    fields = [field.name for field in model._meta.get_fields()]
    lookups = [f"{field}__{lookup}" for number, field in enumerate(fields) for lookup in LOOKUPS[number % 3 :: 3]]
    offered = [f"{field}{suffix}" for field in admin.site._registry[model].list_filter for suffix in ALLOWED_SUFFIXES]
    yield from pairs(PARAMETERS, VALUES, len(VALUES))
    yield from pairs(offered or fields, VALUES, len(VALUES))
    yield from pairs(lookups, VALUES, 40)
    yield from (f"{query}&e=1" for query in pairs(lookups[1:], VALUES, 10))


@pytest.mark.parametrize("model", MODELS)
def test_no_query_of_a_list_fails(superuser: Client, viewer: Client, session: ChatSession, model: type[Model]) -> None:
    """For two who see different columns and filters, in turns."""
    prefix = f"session__id__exact={session.pk}&" if model is Chunk else ""
    clients = itertools.cycle([superuser, viewer])
    wrong = [refused(next(clients), f"{changelist(model)}?{prefix}{query}") for query in queries(model)]
    assert not any(wrong), [line for line in wrong if line]


@pytest.mark.parametrize("model", MODELS)
def test_no_page_of_an_object_fails(superuser: Client, session: ChatSession, model: type[Model]) -> None:
    base = changelist(model)
    names = [str(model._default_manager.values_list("pk", flat=True)[0]), *VALUES]
    pages = ("change/", "delete/", "history/", "cancel/", "media/0/", "media/99999999999999999999/", "")
    rests = ("", "?_popup=1&_to_field=state", "?e=1&_changelist_filters=%00", "?_to_field=nothing")
    wrong = [
        refused(superuser, f"{base}{quote(name[:2000], safe='')}/{page}{rests[number % len(rests)]}")
        for number, (name, page) in enumerate(
            itertools.product(names, pages[:3] if model is not ChatSession else pages)
        )
    ]
    assert not any(wrong), [line for line in wrong if line]


@pytest.mark.parametrize(
    "path", ["", "login/", "logout/", "password_change/", "jsi18n/", "autocomplete/", "r/1/1/", "auth/", "nothing/"]
)
def test_no_page_of_the_site_fails(viewer: Client, path: str) -> None:
    names = ("next", "term", "app_label", "q", "p")
    wrong = [refused(viewer, f"/admin/{path}?{query}") for query in pairs(names, VALUES, len(VALUES))]
    assert not any(wrong), [line for line in wrong if line]


def test_no_link_to_an_object_fails(superuser: Client) -> None:
    shown = [quote(value[:200], safe="") for value in VALUES]
    wrong = [refused(superuser, f"/admin/r/{value}/{other}/") for value, other in itertools.pairwise(shown)]
    assert not any(wrong), [line for line in wrong if line]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    model=st.sampled_from(MODELS),
    query=st.dictionaries(st.text(max_size=30), st.text(max_size=60), max_size=4),
    path=st.text(max_size=40),
)
def test_no_address_at_all_fails(superuser: Client, model: type[Model], query: dict[str, str], path: str) -> None:
    def encoded(text: str) -> str:
        return quote(text.encode("utf-8", "surrogatepass"), safe="")

    asked = "&".join(f"{encoded(name)}={encoded(value)}" for name, value in query.items())
    for url in (f"{changelist(model)}?{asked}", f"{changelist(model)}{encoded(path)}/change/?{asked}"):
        assert refused(superuser, url) is None


@pytest.mark.parametrize("model", [ChatSession, KtpExtraction, ModelWorker, User])
def test_no_posted_action_fails(superuser: Client, session: ChatSession, model: type[Model]) -> None:
    for value in VALUES:
        named = {"_selected_action": value[:5000], "index": value[:500], "select_across": value[:9]}
        for action in ("delete_selected", value[:500]):
            answer = superuser.post(changelist(model), {"action": action, **named})
            assert answer.status_code in (200, 302, 400, 403), (action, value)


def test_a_filter_that_a_list_does_not_offer_is_left_out_and_said(superuser: Client, session: ChatSession) -> None:
    for query in ("request__contains=x", "created_at__year=99999", "id__regex=(", "session__nothing=1", "foo=1&e=1"):
        response = superuser.get(f"{changelist(ChatSession)}?{query}", follow=True)
        assert response.redirect_chain == [(changelist(ChatSession), 302)]
        assert "invalid filter" in response.content.decode()


def test_the_filters_that_a_list_offers_still_work(superuser: Client, session: ChatSession) -> None:
    page = superuser.get(changelist(ChatSession)).content.decode()
    for query in ("state__exact=completed", "origin=chat", "created_at__gte=2020-01-01", "created_at__isnull=False"):
        response = superuser.get(f"{changelist(ChatSession)}?{query}")
        assert response.status_code == 200
    assert "state__exact=completed" in page
    assert superuser.get(f"{changelist(KtpExtraction)}?uploaded_by__id__exact=1&flagged__exact=1").status_code == 200


def test_values_of_cards_cannot_be_found_out_by_filters(viewer: Client, session: ChatSession) -> None:
    for lookup in ("nik", "nik__startswith", "nik__regex", "nama__contains"):
        assert viewer.get(f"{changelist(KtpExtraction)}?{lookup}=3").status_code == 302


def test_a_nul_is_a_bad_request(superuser: Client) -> None:
    for url in (f"{changelist(ChatSession)}?q=%00", f"{changelist(ChatSession)}%00/change/"):
        response = superuser.get(url)
        assert response.status_code == 400
        assert "The request cannot be understood" in response.content.decode()
    assert superuser.post(f"{changelist(ChatSession)}%00/cancel/").status_code == 400


def test_a_refused_page_is_one_line_without_a_stack_trace(capfd: pytest.CaptureFixture[str]) -> None:
    """Through the handler of the settings, as an operator would read it."""
    from logging.config import dictConfig

    from django.conf import settings as project

    logging_settings: dict[str, Any] = project.LOGGING
    client = sign_in(User.objects.create_user("nobody", is_staff=True))
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    loggers = {"sambung.access": {"level": "INFO"}}
    dictConfig({**logging_settings, "root": {**logging_settings["root"], "level": "INFO"}, "loggers": loggers})
    try:
        assert client.get(changelist(ChatSession)).status_code == 403
        assert client.get("/admin/nothing/%0aforged").status_code in (302, 404)
    finally:
        root.handlers[:], root.level = before, level
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert f"GET {changelist(ChatSession)} 403" in lines[0]
    assert r"\nforged" in lines[1]


@pytest.mark.parametrize(
    ("url", "status", "said"),
    [
        ("/nothing", 404, "There is nothing at this address."),
        ("/ocr/nothing/", 404, "There is nothing at this address."),
        (f"/?{'&'.join(f'f{n}=1' for n in range(3))}", 200, "Sambung"),
    ],
)
def test_pages_outside_of_the_api_are_in_the_style_of_the_site(url: str, status: int, said: str) -> None:
    response = Client().get(url, headers={"accept": "text/html,*/*;q=0.8"})
    page = response.content.decode()
    assert response.status_code == status
    assert said in page
    assert "site.css" in page
    assert 'href="/"' in page


def test_the_pages_of_refusals_and_failures_need_no_user_and_no_database(superuser: Client) -> None:
    from django.template.loader import get_template

    for name, said in (("400", "understood"), ("403", "not open"), ("403_csrf", "out of date"), ("500", "failed")):
        page = get_template(f"{name}.html").render()
        assert said in page
        assert 'href="/"' in page
