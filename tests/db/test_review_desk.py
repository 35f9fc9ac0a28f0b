"""The pages of the review desk, without a browser: who sees what, the queue, and the figures."""

from __future__ import annotations

import datetime
import re

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from ocr.desk.figures import WEEKS, recent_weeks
from ocr.models import KtpChange, KtpExtraction
from tests.db.ktp_cards import FLAGGED_JSON, read_extraction
from tests.ktp_card import CARD

pytestmark = pytest.mark.django_db

DESK = "/admin/ocr/review/"


@pytest.fixture
def reviewer(django_user_model):
    user = django_user_model.objects.create_user("reviewer", is_staff=True)
    user.groups.set(Group.objects.filter(name="Reviewer"))
    return user


@pytest.fixture
def desk(client, reviewer):
    client.force_login(reviewer)
    return client


def page_of(card):
    return f"{DESK}{card.pk}/"


def form_of(card, **changes):
    return {"version": card.version, **changes}


def test_the_queue_says_how_many_wait_and_how_many_are_flagged(desk):
    read_extraction()
    flagged = read_extraction(text=FLAGGED_JSON)
    read_extraction().mark_failed("cancelled")

    page = desk.get(DESK).text

    assert re.sub(r"<[^>]+>", "", page[page.index("desk-counts") :]).startswith('desk-counts">3 waiting, 1 flagged')
    assert CARD["nama"] not in page and flagged.nik not in page
    assert page.index(page_of(flagged)) == page.index(f"{DESK}", page.index("<tbody>"))


def test_the_queue_costs_the_same_for_many_cards_as_for_one_and_reads_no_picture(desk, django_assert_num_queries):
    read_extraction()
    with CaptureQueriesContext(connection) as for_one:
        desk.get(DESK)
    for _ in range(5):
        read_extraction(text=FLAGGED_JSON)

    with django_assert_num_queries(len(for_one)) as queries:
        desk.get(DESK)
    assert not any("ktpimage" in query["sql"] for query in queries)


@pytest.mark.parametrize("query", ["?flag=any", "?flag=nik_birth_date_differs", "?uploader=api&flag=any"])
def test_the_filters_stay_with_a_reviewer_from_card_to_card(desk, query):
    read_extraction()
    first, second = read_extraction(text=FLAGGED_JSON), read_extraction(text=FLAGGED_JSON)

    response = desk.post(f"{DESK}next/{query}")
    assert response.url == f"{page_of(first)}{query.replace('uploader=api&flag=any', 'flag=any&uploader=api')}"
    response = desk.post(response.url, form_of(first, _reject="1", reason="blurred"))
    assert response.url.startswith(page_of(second))
    assert "?" in response.url
    response = desk.post(response.url, form_of(second, _reject="1", reason="blurred"))
    assert response.url.startswith(f"{DESK}?")


@pytest.mark.parametrize(
    "query", ["flag=nonsense", "uploader=999", "uploader=x", "day=yesterday", "day=2026-13-45", "x=y"]
)
def test_a_filter_that_is_none_is_left_out(desk, query):
    card = read_extraction()

    assert page_of(card) in desk.get(f"{DESK}?{query}").text


def test_a_card_is_claimed_by_whoever_opens_it(desk, reviewer):
    card = read_extraction()

    desk.get(page_of(card))

    card.refresh_from_db()
    assert card.claimed_by == reviewer
    assert card.history.filter(kind="opened").count() == 1
    desk.get(page_of(card))
    assert card.history.filter(kind="opened").count() == 1


def test_a_decision_opens_the_next_card_and_offers_to_undo_it(desk, reviewer):
    first, second = read_extraction(), read_extraction()

    response = desk.post(page_of(first), form_of(first, _approve="1"), follow=True)

    assert response.redirect_chain == [(page_of(second), 302)]
    first.refresh_from_db()
    assert f"{page_of(first)}undo/" in response.text
    response = desk.post(f"{page_of(first)}undo/", form_of(first))
    assert response.url == page_of(first)
    first.refresh_from_db()
    assert first.review == "needs_review"
    assert "/undo/" not in desk.get(page_of(first)).text


def test_it_is_not_undone_when_it_is_too_late(desk, settings):
    settings.OCR_UNDO_SECONDS = 0
    card = read_extraction()
    assert "/undo/" not in desk.post(page_of(card), form_of(card, _approve="1"), follow=True).text
    card.refresh_from_db()

    response = desk.post(f"{page_of(card)}undo/", form_of(card))

    assert response.status_code == 409 and "too late" in response.text
    card.refresh_from_db()
    assert card.review == "approved"


def test_a_value_that_is_too_long_is_refused_and_kept_in_the_form(desk):
    card = read_extraction()

    response = desk.post(page_of(card), form_of(card, nama="A" * 201, _save="1"))

    assert response.status_code == 400
    assert "A" * 201 in response.text and "Name:" in response.text
    card.refresh_from_db()
    assert card.nama == CARD["nama"]


def test_the_timeline_tells_the_whole_story(desk, reviewer):
    card = read_extraction(text=FLAGGED_JSON)
    card.correct(reviewer, {"nik": CARD["nik"]}, card.version)
    card.reject(reviewer, "other", "torn in two", card.version)
    card.reopen(reviewer, "it was whole", card.version)

    desk.post(page_of(card), form_of(card, _reveal="1"))
    page = re.sub(r"\s+", " ", desk.get(page_of(card)).text)

    for told in (
        "<b>the server</b>: Read by the model",
        "<b>reviewer</b>: Corrected, Identity number: <del>3171990201900001</del> → <ins>3171990101900001</ins>",
        '<b>reviewer</b>: Rejected<span class="desk-why">Another reason: torn in two</span>',
        '<b>reviewer</b>: Reopened<span class="desk-why">it was whole</span>',
    ):
        assert told in page
    # The model's own value stands beside the corrected one.
    assert "The model read: <del>3171990201900001</del>" in page


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("page", ["", "next/", "logged-in/", "CARD/", "CARD/undo/", "accuracy/"])
@pytest.mark.parametrize("codenames", [(), ("view_ktpextraction", "change_ktpextraction"), ("review_ktp",)])
def test_the_desk_is_for_reviewers(client, django_user_model, method, page, codenames):
    card = read_extraction()
    user = django_user_model.objects.create_user("somebody", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(user)

    response = getattr(client, method)(DESK + page.replace("CARD", str(card.pk)), form_of(card, _approve="1"))

    assert response.status_code in (403, 405)
    card.refresh_from_db()
    assert (card.review, card.claimed_by) == ("needs_review", None)


def test_people_without_a_log_in_are_sent_to_it(client):
    assert client.get(page_of(read_extraction())).url.startswith("/admin/login/")


def test_a_reviewer_without_the_right_to_change_corrects_nothing(desk, reviewer):
    Group.objects.get(name="Reviewer").permissions.remove(Permission.objects.get(codename="change_ktpextraction"))
    card = read_extraction()

    page = desk.get(page_of(card)).text
    assert 'name="nama"' not in page and CARD["nama"] in page
    desk.post(page_of(card), form_of(card, nama="LAIN", _approve="1"))

    card.refresh_from_db()
    assert (card.nama, card.review) == (CARD["nama"], "approved")


def test_markup_in_a_value_is_text(desk, reviewer):
    card = read_extraction()
    card.correct(reviewer, {"nama": '"><script>alert(1)</script>'}, card.version)

    assert "<script>alert" not in desk.get(page_of(card)).text


# --- Accuracy in production ---


def decide(user, **corrected):
    card = read_extraction(text=FLAGGED_JSON)
    card.claim(user)
    card.correct(user, {"nik": CARD["nik"], **corrected}, card.version)
    card.approve(user, card.version)
    return card


def test_the_figures_count_what_reviewers_corrected_and_what_no_flag_had_named(reviewer):
    decide(reviewer)
    decide(reviewer, pekerjaan="GURU")
    rejected = read_extraction()
    rejected.reject(reviewer, "blurred", "", rejected.version)

    week = recent_weeks()[-1]

    assert (week.approved, week.rejected) == (2, 1)
    assert week.corrected_share("nik") == 1.0 and week.corrected_share("pekerjaan") == 0.5
    assert week.corrected_share("agama") == 0.0
    # The number was flagged; the occupation was not.
    assert week.missed_count == 1 and week.missed_share == pytest.approx(1 / 28)
    assert len(week.seconds) == 2


def test_a_decision_that_was_taken_back_does_not_count(reviewer):
    undone, again = decide(reviewer), decide(reviewer, pekerjaan="GURU")
    undone.undo(reviewer, undone.version)
    again.reopen(reviewer, "a mistake", again.version)
    again.reject(reviewer, "covered", "", again.version)

    week = recent_weeks()[-1]

    assert (week.approved, week.rejected) == (0, 1)
    assert week.corrected_share("nik") is None


def test_each_decision_is_counted_in_its_week(reviewer):
    card = decide(reviewer)
    KtpChange.objects.filter(extraction=card).update(at=timezone.now() - datetime.timedelta(weeks=3))
    old = decide(reviewer)
    KtpChange.objects.filter(extraction=old).update(at=timezone.now() - datetime.timedelta(weeks=WEEKS + 1))

    assert [week.approved for week in recent_weeks()] == [0] * (WEEKS - 4) + [1, 0, 0, 0]


def test_the_page_about_accuracy_shows_nobody(client, django_user_model, reviewer):
    card = decide(reviewer, nama="NAMA YANG LAIN")
    auditor = django_user_model.objects.create_user("auditor", is_staff=True)
    auditor.groups.set(Group.objects.filter(name="Auditor"))
    client.force_login(auditor)

    page = client.get(f"{DESK}accuracy/").text

    assert "<svg" in page and "100%" in page
    for text in (*card.values.values(), CARD["nama"], card.masked_nik, str(card.pk), "reviewer"):
        assert not text or f">{text}<" not in page
    assert KtpExtraction.objects.filter(review="approved").exists()
