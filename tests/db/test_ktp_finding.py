"""Readings are found by NIK and by name, and nothing that stays anywhere says which NIK or name was looked for."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client

from ocr.audit.models import AuditEntry
from ocr.desk import finding
from ocr.models import KtpExtraction
from ocr.reading.schema import as_contract
from tests.db.ktp_cards import read_extraction
from tests.ktp_card import CARD

pytestmark = pytest.mark.django_db

FIND, LIST, DESK = "/admin/ocr/find/", "/admin/ocr/ktpextraction/", "/admin/ocr/review/"
OTHER = {**CARD, "nik": "9971234101900007", "nama": "I GUSTI NGURAH SPESIMEN"}


def of_role(role: str, *, name: str = "") -> Client:
    user = User.objects.create_user(name or role.lower(), is_staff=True)
    user.groups.set(Group.objects.filter(name=role))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def reviewer() -> Client:
    return of_role("Reviewer")


@pytest.fixture
def cards() -> tuple[KtpExtraction, KtpExtraction]:
    return read_extraction(), read_extraction(text=json.dumps(as_contract(OTHER)))


def url_after(client: Client, address: str, data: dict[str, Any] | None = None) -> str:
    """Where a POST leads."""
    return client.post(address, data or {}).headers["Location"]


def links_to(card: KtpExtraction, page: Any) -> bool:
    return f"{card.pk}/change/" in page.text


@pytest.mark.parametrize(
    "term",
    [
        CARD["nik"],
        f" {CARD['nik'][:6]} {CARD['nik'][6:12]}.{CARD['nik'][12:]} ",
        CARD["nama"],
        f" {CARD['nama'].lower().replace(' ', '  ')}. ",
    ],
)
def test_a_reading_is_found_by_its_whole_nik_and_name_however_they_are_typed(
    reviewer: Client, cards: tuple[KtpExtraction, KtpExtraction], term: str
) -> None:
    wanted, other = cards

    page = reviewer.post(FIND, {"term": term}, follow=True)

    assert links_to(wanted, page) and not links_to(other, page)
    assert "1 reading was found" in page.text


@pytest.mark.parametrize("term", [CARD["nik"][:15], CARD["nama"].split()[0], "%", "_" * 16, "' OR 1=1 --"])
def test_parts_and_patterns_find_nothing_and_the_page_says_why(
    reviewer: Client, cards: tuple[KtpExtraction, KtpExtraction], term: str
) -> None:
    page = reviewer.post(FIND, {"term": term}, follow=True)

    assert not any(links_to(card, page) for card in cards)
    assert "No reading has this" in page.text and "stored encrypted" in page.text


def test_a_correction_is_found_by_the_new_value_and_not_by_the_old(reviewer: Client) -> None:
    card = read_extraction()
    card.correct(User.objects.get(username="reviewer"), {"nama": OTHER["nama"]}, card.version)

    assert links_to(card, reviewer.post(FIND, {"term": OTHER["nama"]}, follow=True))
    assert not links_to(card, reviewer.post(FIND, {"term": CARD["nama"]}, follow=True))


def test_a_search_stays_while_the_list_is_filtered_and_falls_away_with_show_all(
    reviewer: Client, cards: tuple[KtpExtraction, KtpExtraction]
) -> None:
    wanted, other = cards
    found = url_after(reviewer, FIND, {"term": CARD["nik"], "query": "flagged__exact=0"})

    assert "flagged__exact=0" in found
    assert links_to(wanted, reviewer.get(found))
    left = reviewer.get(found.replace("flagged__exact=0", "flagged__exact=1"))
    assert "the filters exclude all of them" in left.text
    assert links_to(other, reviewer.get(LIST))


def test_readings_are_found_by_day_and_by_kind_of_flag(reviewer: Client) -> None:
    today, before = read_extraction(), read_extraction()
    KtpExtraction.objects.filter(pk=before.pk).update(created_at="2026-01-15T10:00:00Z")

    on_a_day = url_after(reviewer, FIND, {"day": "2026-01-15"})
    assert on_a_day == f"{LIST}?day=2026-01-15"
    page = reviewer.get(on_a_day)
    assert links_to(before, page) and not links_to(today, page)
    assert links_to(today, reviewer.get(f"{LIST}?flag=nik_unused_district"))
    assert not links_to(today, reviewer.get(f"{LIST}?flag=nik_not_16_digits"))
    assert links_to(today, reviewer.get(f"{LIST}?flag=none-such&day=none-such"))


def test_the_desk_shows_what_was_found_of_the_queue_and_goes_through_it(
    reviewer: Client, cards: tuple[KtpExtraction, KtpExtraction]
) -> None:
    wanted, other = cards
    url = url_after(reviewer, FIND, {"term": CARD["nama"], "desk": "1"})
    assert url.startswith(f"{DESK}?found=")

    page = reviewer.get(url).text
    assert f"{DESK}{wanted.pk}/" in page and f"{DESK}{other.pk}/" not in page
    opened = url_after(reviewer, url.replace(DESK, f"{DESK}next/"))
    assert opened.startswith(f"{DESK}{wanted.pk}/?found=")
    decided = url_after(reviewer, opened, {"version": wanted.version, "_reject": "1", "reason": "blurred"})
    assert decided.startswith(f"{DESK}?found=")
    # Another reviewer's word, or an old one, does not open the whole queue.
    assert url_after(reviewer, f"{DESK}next/?found=other") == f"{DESK}?found=other"


def test_a_search_that_is_over_is_said_and_is_not_taken_for_no_search(
    reviewer: Client, cards: tuple[KtpExtraction, KtpExtraction]
) -> None:
    for page in (LIST, DESK):
        response = reviewer.get(f"{page}?found=forgotten&flag=any")
        assert response.headers["Location"] == f"{page}?flag=any"
    found = url_after(reviewer, FIND, {"term": CARD["nik"]})
    for _ in range(finding.MOST_SEARCHES):
        reviewer.post(FIND, {"term": OTHER["nik"]})
    assert reviewer.get(found).headers["Location"] == LIST
    assert of_role("Reviewer", name="second").get(found).headers["Location"] == LIST


def test_of_very_many_readings_the_latest_are_kept(
    reviewer: Client, cards: tuple[KtpExtraction, KtpExtraction], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "MOST_FOUND", 1)
    latest = read_extraction()

    page = reviewer.post(FIND, {"term": CARD["nik"]}, follow=True)

    assert links_to(latest, page) and not links_to(cards[0], page)
    assert "There are more" in page.text


# --- Who may ---


@pytest.mark.parametrize(("role", "status"), [("Reviewer", 302), ("Auditor", 302), ("Operator", 403), ("Clerk", 403)])
def test_those_who_see_the_list_may_search(role: str, status: int) -> None:
    assert of_role(role).post(FIND, {"term": CARD["nik"]}).status_code == status
    assert AuditEntry.objects.filter(action="searched").count() == (status == 302)


def test_it_is_only_asked_by_post(reviewer: Client) -> None:
    assert reviewer.get(FIND, {"term": CARD["nik"]}).status_code == 405
    # What Django's own search would take is not looked at, and not offered.
    page = reviewer.get(LIST, {"q": CARD["nik"]}, follow=True)
    assert 'name="q"' not in page.text


# --- What stays ---


def test_nothing_that_stays_says_what_was_looked_for(
    reviewer: Client, cards: tuple[KtpExtraction, KtpExtraction], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("", "ocr", "sessions_app", "config", "django"):
        caplog.set_level(logging.DEBUG, name)
    logging.getLogger("django.db.backends").setLevel(logging.INFO)  # it logs nothing but queries, and only with DEBUG
    wanted, _ = cards
    urls = [url_after(reviewer, FIND, {"term": term}) for term in (CARD["nik"], CARD["nama"], "NAMA YANG TIDAK ADA")]
    pages = [reviewer.get(url) for url in urls]

    kept = [
        *urls,
        *(json.dumps(session.get_decoded()) for session in Session.objects.all()),
        *(json.dumps([entry.facts, entry.purpose]) for entry in AuditEntry.objects.all()),
        caplog.text,
    ]
    digests = [wanted.nik_lookup, wanted.name_lookup]
    for text in (CARD["nik"], CARD["nama"], "TIDAK ADA", *digests):
        assert all(text not in one for one in kept), text
    # Nor does the page echo it, where a shoulder, a screenshot or a restored form would show it.
    assert all("TIDAK ADA" not in page.text and CARD["nik"] not in page.text for page in pages)


def test_a_search_is_in_the_audit_log_with_what_it_found(
    reviewer: Client, cards: tuple[KtpExtraction, KtpExtraction]
) -> None:
    reviewer.post(FIND, {"term": CARD["nik"]})

    entry = AuditEntry.objects.get(action="searched")
    assert entry.actor_name == "reviewer"
    assert entry.facts == {"by": "nik", "count": 1, "more": False, "cards": [str(cards[0].pk)]}


def test_without_the_key_the_page_says_so(reviewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from sessions_app.encryption import keyring

    def none() -> Any:
        raise keyring.DataKeyMissing

    monkeypatch.setattr(keyring, "ring", none)
    page = reviewer.post(FIND, {"term": CARD["nik"]}, follow=True)
    assert page.status_code == 200 and "DATA_KEYS" in page.text


# --- Read before ---


def test_the_desk_says_that_the_nik_was_read_before(reviewer: Client) -> None:
    first, second = read_extraction(), read_extraction()
    other = read_extraction(text=json.dumps(as_contract(OTHER)))

    page = reviewer.get(f"{DESK}{second.pk}/").text
    assert "This NIK was read before" in page and f"{first.pk}/change/" in page
    for card in (first, other):
        assert "was read before" not in reviewer.get(f"{DESK}{card.pk}/").text


def test_half_a_nik_says_nothing_about_being_read_before(reviewer: Client) -> None:
    half = json.dumps(as_contract({**CARD, "nik": CARD["nik"][:9]}))
    read_extraction(text=half)
    assert "was read before" not in reviewer.get(f"{DESK}{read_extraction(text=half).pk}/").text


def test_a_clerk_is_told_of_readings_of_their_own_only() -> None:
    clerk, stranger = User.objects.create_user("clerk"), User.objects.create_user("stranger")
    for user in (clerk, stranger):
        user.groups.set(Group.objects.filter(name="Clerk"))
    client = Client()
    client.force_login(clerk)
    read_extraction(stranger)
    own = read_extraction(clerk)
    assert "The same NIK was read" not in client.get(f"/ocr/{own.pk}/").text
    again = read_extraction(clerk)
    page = client.get(f"/ocr/{again.pk}/").text
    assert "The same NIK was read" in page and str(own.pk) in page


def test_an_index_finds_them() -> None:
    read_extraction()
    plan = KtpExtraction.objects.with_nik(CARD["nik"]).order_by().explain()
    # PostgreSQL scans a table of one row.
    assert "ktp_nik" in plan or connection.vendor == "postgresql"
