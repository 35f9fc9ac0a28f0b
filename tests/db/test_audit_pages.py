"""The auditor's pages: the log, and what a leaked account, key or address has seen and could have seen."""

from __future__ import annotations

import csv
import datetime
import io
import uuid

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from ocr.audit import pages
from ocr.audit.actors import Actor
from ocr.audit.models import Action, ActorKind, AuditEntry
from ocr.audit.recording import record, record_each
from ocr.audit.searching import SHOWN
from ocr.models import KtpExtraction
from sessions_app.callers import caller_with_key
from tests.db.ktp_cards import read_extraction
from tests.db.test_ktp_export import pieces_of
from tests.ktp_card import CARD

pytestmark = pytest.mark.django_db

LOG, BREACH = "/admin/ocr/audit/", "/admin/ocr/audit/breach/"


def staff(name: str, group: str) -> User:
    user = User.objects.create_user(name, is_staff=True)
    user.groups.set(Group.objects.filter(name=group))
    return user


@pytest.fixture
def siti():
    return staff("siti", "Reviewer")


@pytest.fixture
def auditor():
    client = Client()
    client.force_login(staff("auditor", "Auditor"))
    return client


@pytest.mark.parametrize("page", [LOG, BREACH])
@pytest.mark.parametrize(("group", "status"), [("Auditor", 200), ("Reviewer", 403), ("Operator", 403), ("Clerk", 403)])
def test_only_auditors_read_the_log(client, page, group, status):
    client.force_login(staff("somebody", group))
    assert client.get(page).status_code == status


def test_the_log_is_found_from_the_menu(auditor):
    assert f'href="{LOG}"' in auditor.get("/admin/ocr/ktpextraction/").text


@pytest.fixture
def lines(siti):
    """Of siti, of a key and of the server; the second is an hour old."""
    cards = [uuid.uuid4() for _ in range(3)]
    key = Actor.of_caller(caller_with_key("k" * 30), "192.0.2.9")
    record(Action.REVEALED, actor=Actor.of_user(siti, "192.0.2.7"), card=cards[0], facts={"fields": ["nik"]})
    record(Action.API_READ, actor=key, card=cards[1])
    record(Action.PURGED, actor=Actor.of_server(), card=cards[2])
    return cards


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [2, 1, 0]),
        ("?who=siti", [0]),
        ("?who={key}", [1]),
        ("?action=purged", [2]),
        ("?address=192.0.2.9", [1]),
        ("?card={card}", [1]),
        ("?who=siti&action=purged", []),
        ("?since=2020-01-01T00:00&until=2100-01-01T00:00", [2, 1, 0]),
        ("?since=2100-01-01T00:00", []),
        ("?until=2020-01-01T00:00", []),
    ],
)
def test_the_log_is_searched(auditor, lines, query, found):
    query = query.format(card=lines[1], key=caller_with_key("k" * 30))
    response = auditor.get(LOG + query)
    assert [line.card for line in response.context["lines"]] == [lines[number] for number in found]


@pytest.mark.parametrize("query", ["?card=x", "?address=nowhere", "?since=tomorrow", "?before=-1", "?action=x"])
def test_a_search_for_nonsense_finds_nothing_and_says_why(auditor, lines, query):
    response = auditor.get(LOG + query)
    assert response.status_code == 200 and response.context["lines"] == []
    assert 'role="alert"' in response.text
    assert "No line of the log matches." not in response.text


def test_the_log_is_read_in_pages(auditor, siti):
    record_each(Action.VIEWED, [uuid.uuid4() for _ in range(SHOWN + 5)], actor=Actor.of_user(siti))
    first = auditor.get(f"{LOG}?who=siti")
    assert len(first.context["lines"]) == SHOWN and "Older" in first.text
    second = auditor.get(f"{LOG}?{first.context['older']}")
    assert [line.sequence for line in second.context["lines"]] == [5, 4, 3, 2, 1]
    assert "Older" not in second.text and "The newest" in second.text


def test_looking_into_the_log_is_a_line_of_it(auditor, lines):
    auditor.get(f"{LOG}?card={lines[0]}&action=revealed")
    line = AuditEntry.objects.latest("sequence")
    assert (line.action, line.actor_name, line.card) == ("audit_searched", "auditor", lines[0])
    assert line.facts == {"by": ["action", "card"], "lines": 1}


def test_no_query_of_the_log_counts_or_scans_it(auditor, siti):
    record_each(Action.VIEWED, [uuid.uuid4() for _ in range(3000)], actor=Actor.of_user(siti))
    with CaptureQueriesContext(connection) as queries:
        auditor.get(f"{LOG}?who=siti&since=2020-01-01T00:00")
    asked = [query["sql"] for query in queries if "FROM" in query["sql"] and "ocr_auditentry" in query["sql"]]
    assert len(asked) == 2 and not any("COUNT" in sql for sql in asked)
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            for sql in asked:
                cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
                plan = str(cursor.fetchall())
                # Lines of the very same moment may be sorted; more is never.
                plan = plan.replace("TEMP B-TREE FOR RIGHT PART", "")
                assert "SEARCH" in plan and "SCAN" not in plan and "TEMP B-TREE" not in plan, plan


# --- The breach page ---


def at(hours: float) -> str:
    return timezone.localtime(timezone.now() + datetime.timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M")


def ask(auditor: Client, who: str, since: float = -1, until: float = 1, **more: str):
    return auditor.get(BREACH, {"who": who, "since": at(since), "until": at(until), **more})


def rows_of(response) -> dict[str, dict[str, str]]:
    text = b"".join(pieces_of(response)).decode("utf-8-sig")
    return {row["card"]: row for row in csv.DictReader(io.StringIO(text))}


@pytest.mark.django_db(transaction=True)
def test_what_a_reviewer_saw_and_could_have_seen(auditor, siti):
    revealed, listed, unseen = (read_extraction() for _ in range(3))
    gone = uuid.uuid4()
    actor = Actor.of_user(siti)
    record(Action.LISTED, actor=actor, facts={"cards": [str(listed.pk), str(revealed.pk)], "count": 2})
    record(Action.VIEWED, actor=actor, card=revealed)
    record(Action.REVEALED, actor=actor, card=revealed)
    record(Action.VIEWED, actor=actor, card=gone)
    record(Action.REVEALED, actor=Actor.of_user(staff("another", "Reviewer")), card=unseen)

    page = ask(auditor, "siti")
    assert page.context["seen"][0].card == revealed.pk
    assert (page.context["seen_count"], page.context["clear_count"], page.context["permitted_count"]) == (3, 1, 3)
    assert "It may reveal the values of all of them." in page.text and "erased" in page.text

    rows = rows_of(ask(auditor, "siti", format="csv"))
    assert set(rows) == {str(card) for card in (revealed.pk, listed.pk, unseen.pk, gone)}
    assert rows[str(revealed.pk)] | {"seen": "yes", "in_clear": "yes"} == rows[str(revealed.pk)]
    assert rows[str(revealed.pk)]["actions"] == "listed:1 revealed:1 viewed:1"
    assert rows[str(listed.pk)] | {"seen": "yes", "in_clear": "no"} == rows[str(listed.pk)]
    assert rows[str(unseen.pk)] | {"seen": "could have been", "first": ""} == rows[str(unseen.pk)]
    assert rows[str(gone)]["stored"] == "erased"


def test_an_export_of_many_cards_counts_for_each(auditor, siti):
    cards = [uuid.uuid4(), uuid.uuid4()]
    record(Action.EXPORTED, actor=Actor.of_user(siti), facts={"cards": [str(card) for card in cards], "format": "csv"})
    page = ask(auditor, "siti")
    assert {card.card for card in page.context["seen"]} == set(cards)
    assert page.context["clear_count"] == 2


@pytest.mark.django_db(transaction=True)
def test_a_clerk_could_have_seen_the_own_cards_only(auditor):
    clerk = staff("clerk", "Clerk")
    own, _ = read_extraction(clerk), read_extraction()
    assert set(rows_of(ask(auditor, "clerk", format="csv"))) == {str(own.pk)}


@pytest.mark.django_db(transaction=True)
def test_a_key_could_have_seen_the_cards_that_it_sent(auditor):
    caller = caller_with_key("k" * 30)
    own, read, _ = (read_extraction() for _ in range(3))
    KtpExtraction.objects.filter(pk__in=(own.pk, read.pk)).update(caller=caller)
    record(Action.API_READ, actor=Actor.of_caller(caller), card=read)

    rows = rows_of(ask(auditor, caller, format="csv"))
    assert {pk: row["seen"] for pk, row in rows.items()} == {str(own.pk): "could have been", str(read.pk): "yes"}


@pytest.mark.django_db(transaction=True)
def test_the_file_is_made_a_page_at_a_time_while_it_is_sent(auditor, siti, monkeypatch):
    monkeypatch.setattr(pages, "PAGE_CARDS", 2)
    seen, *others = [read_extraction().pk for _ in range(4)]
    record(Action.VIEWED, actor=Actor.of_user(siti), card=seen)
    response = ask(auditor, "siti", format="csv")
    assert response.is_async
    head, first, *rest = [piece.decode() for piece in pieces_of(response)]
    assert "in_clear" in head and str(seen) in first
    assert len(rest) == 2
    assert sorted(str(pk) for pk in others) == [row[0] for row in csv.reader("".join(rest).splitlines())]


def test_an_address_has_what_was_seen_from_it_and_no_rights(auditor, siti):
    card = read_extraction()
    record(Action.VIEWED_IMAGE, actor=Actor.of_user(siti, "192.0.2.7"), card=card)
    page = ask(auditor, "192.0.2.7")
    assert (page.context["seen_count"], page.context["permitted_count"]) == (1, 0)
    assert "An address has no rights of its own" in page.text


def test_only_what_was_seen_between_the_two_times_counts(auditor, siti):
    record(Action.VIEWED_IMAGE, actor=Actor.of_user(siti), card=uuid.uuid4())
    assert ask(auditor, "siti", since=1, until=2).context["seen_count"] == 0
    assert ask(auditor, "siti", since=-2, until=-1).context["seen_count"] == 0


def test_a_user_who_was_renamed_is_found_with_what_was_done_before(auditor, siti):
    record(Action.VIEWED_IMAGE, actor=Actor.of_user(siti), card=uuid.uuid4())
    siti.username = "siti.aminah"
    siti.save()
    assert ask(auditor, "siti.aminah").context["seen_count"] == 1


def test_an_account_that_was_deleted_is_found_by_its_name(auditor):
    record(Action.VIEWED_IMAGE, actor=Actor(ActorKind.USER, "99", "left"), card=uuid.uuid4())
    page = ask(auditor, "left")
    assert page.context["seen_count"] == 1 and "no such account now" in page.text


@pytest.mark.django_db(transaction=True)
def test_neither_page_nor_file_has_a_value_of_a_card_or_a_name_in_its_name(auditor, siti):
    card = read_extraction()
    record(Action.REVEALED, actor=Actor.of_user(siti), card=card)
    file = ask(auditor, "siti", format="csv")
    text = b"".join(pieces_of(file)).decode() + ask(auditor, "siti").text + auditor.get(LOG).text
    assert not any(value in text for value in (CARD["nik"], CARD["nama"], CARD["tgl_lahir"], card.masked_nik))
    assert "siti" not in file["Content-Disposition"] and "no-store" in file["Cache-Control"]
    assert AuditEntry.objects.filter(action="audit_exported", actor_name="auditor").count() == 1


def test_a_time_that_ends_before_it_begins_is_refused(auditor):
    response = ask(auditor, "siti", since=1, until=-1)
    assert "not after the beginning" in response.text and "seen" not in response.context
