from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission

from ocr.models import KtpExtraction
from ocr.schema import FIELDS
from tests.db.ktp_cards import CARD_JSON, FLAGGED_JSON, answer, read_extraction, reading_extraction
from tests.ktp_card import CARD

pytestmark = pytest.mark.django_db

LIST = "/admin/ocr/ktpextraction/"


@pytest.fixture
def reviewer(django_user_model):
    user = django_user_model.objects.create_user("reviewer", is_staff=True)
    codenames = ("view_ktpextraction", "change_ktpextraction", "view_ktp_image", "review_ktp")
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return user


@pytest.fixture
def desk(client, reviewer):
    client.force_login(reviewer)
    return client


def form_of(extraction, **changes):
    return {field.column: getattr(extraction, field.column) for field in FIELDS} | changes


def detail(extraction):
    return f"{LIST}{extraction.pk}/change/"


def run_action(desk, name, *extractions):
    chosen = {"action": name, "_selected_action": [str(extraction.pk) for extraction in extractions]}
    return desk.post(LIST, chosen, follow=True)


def test_the_list_masks_people_and_counts_what_to_check(desk):
    read_extraction()
    read_extraction(text=FLAGGED_JSON)

    page = desk.get(LIST).text

    assert "317199••••••0001" in page and "S•••••••••" in page
    assert CARD["nik"] not in page and CARD["nama"] not in page
    # The number and the birth date that it contradicts.
    assert "2 to check" in page


def test_the_list_never_loads_an_image(desk, django_assert_max_num_queries):
    for _ in range(3):
        read_extraction()

    with django_assert_max_num_queries(12) as queries:
        assert desk.get(LIST).status_code == 200
    assert not any("ktpimage" in query["sql"] for query in queries)


def test_the_list_is_found_by_id_and_by_session_and_filtered(desk):
    wanted, other = read_extraction(), read_extraction(text=FLAGGED_JSON)

    for query in (f"?q={wanted.pk}", f"?q={wanted.session_id}", "?flagged__exact=0"):
        page = desk.get(LIST + query).text
        assert str(wanted.pk) in page, query
        assert str(other.pk) not in page, query
    assert "0 KTP extractions" in desk.get(f"{LIST}?q={CARD['nik']}").text


def test_nobody_makes_a_reading_by_hand(desk):
    assert desk.get(f"{LIST}add/").status_code == 403


def test_staff_without_permission_sees_nothing(client, django_user_model):
    client.force_login(django_user_model.objects.create_user("other", is_staff=True))

    assert client.get(LIST).status_code == 403
    assert client.get(detail(read_extraction())).status_code == 403


def test_the_detail_page_shows_the_image_beside_fields_and_problems(desk):
    extraction = read_extraction(text=FLAGGED_JSON)

    page = desk.get(detail(extraction)).text

    assert f'src="/ocr/{extraction.pk}/image/"' in page
    assert desk.get(f"/ocr/{extraction.pk}/image/").status_code == 200
    assert f'href="/admin/sessions_app/chatsession/{quote(extraction.session_id or "")}/change/"' in page
    assert f'name="nik" value="{extraction.nik}"' in page
    assert "differs from the printed one" in page and "berbeda dari yang tercetak" in page
    assert 'name="_approve"' in page and 'name="_reject"' in page


def test_a_correction_keeps_the_models_own_value_and_clears_its_flag(desk):
    extraction = read_extraction(text=FLAGGED_JSON)

    response = desk.post(detail(extraction), form_of(extraction, nik=CARD["nik"]))

    assert response.status_code == 302
    extraction.refresh_from_db()
    assert extraction.nik == CARD["nik"]
    assert extraction.fields_read["nik"] == "3171990201900001"
    assert not extraction.flagged
    assert extraction.review == "needs_review"
    assert "ktp-corrected" in desk.get(detail(extraction)).text


def test_what_is_read_only_cannot_be_posted(desk, reviewer):
    extraction = read_extraction()

    forged = {"raw_answer": "x", "fields_read": "{}", "problems": "[]", "review": "approved", "state": "failed"}
    desk.post(detail(extraction), form_of(extraction, nama="BARU", **forged))

    extraction.refresh_from_db()
    assert extraction.nama == "BARU"
    assert (extraction.raw_answer, extraction.fields_read) == (CARD_JSON, CARD)
    assert (extraction.review, extraction.state, extraction.reviewed_by) == ("needs_review", "read", None)


def test_approving_on_the_page_saves_and_writes_who_and_when(desk, reviewer):
    extraction = read_extraction()

    desk.post(detail(extraction), form_of(extraction, nama="DIPERBAIKI", _approve="1"))

    extraction.refresh_from_db()
    assert extraction.nama == "DIPERBAIKI"
    assert (extraction.review, extraction.reviewed_by) == ("approved", reviewer)
    assert extraction.reviewed_at is not None
    assert CARD["nama"] not in str(list(LogEntry.objects.values()))


def test_an_approved_reading_is_closed_until_it_is_reopened(desk, reviewer):
    extraction = read_extraction()
    extraction.approve(reviewer, extraction.version)

    desk.post(detail(extraction), form_of(extraction, nama="LAIN"))
    extraction.refresh_from_db()
    assert extraction.nama == CARD["nama"]

    assert 'name="_reopen"' in desk.get(detail(extraction)).text
    desk.post(detail(extraction), {"_reopen": "1"})
    extraction.refresh_from_db()
    assert (extraction.review, extraction.reviewed_by) == ("needs_review", None)


def test_the_second_of_two_reviewers_is_told(desk, reviewer, django_user_model):
    extraction = read_extraction()
    first = django_user_model.objects.create_user("first")
    extraction.reject(first, "blurred", "", extraction.version)

    response = desk.post(detail(extraction), {"_approve": "1"}, follow=True)

    extraction.refresh_from_db()
    assert (extraction.review, extraction.reviewed_by) == ("rejected", first)
    assert "was not changed" in response.text


def test_reviewing_needs_its_own_permission(desk, reviewer):
    reviewer.user_permissions.remove(Permission.objects.get(codename="review_ktp"))
    extraction = read_extraction()

    assert "_approve" not in desk.get(detail(extraction)).text
    assert "approve_selected" not in desk.get(LIST).text
    desk.post(detail(extraction), form_of(extraction, _approve="1"))
    run_action(desk, "approve_selected", extraction)

    extraction.refresh_from_db()
    assert extraction.review == "needs_review"


def test_bulk_approval_takes_the_clean_and_refuses_the_flagged(desk, reviewer):
    clean, flagged, waiting = read_extraction(), read_extraction(text=FLAGGED_JSON), reading_extraction()

    page = run_action(desk, "approve_selected", clean, flagged, waiting).text

    assert "1 readings approved" in page
    assert "2 readings were not approved" in page
    reviews = dict(KtpExtraction.objects.values_list("pk", "review"))
    assert reviews == {clean.pk: "approved", flagged.pk: "needs_review", waiting.pk: "needs_review"}
    clean.refresh_from_db()
    assert clean.reviewed_by == reviewer


def test_bulk_rejection_takes_what_was_read(desk):
    read, waiting = read_extraction(text=FLAGGED_JSON), reading_extraction()

    assert "1 readings rejected" in run_action(desk, "reject_selected", read, waiting).text
    read.refresh_from_db()
    assert read.review == "rejected"


def test_a_page_opened_while_the_model_reads_completes_and_never_overwrites(desk):
    extraction = reading_extraction()
    assert "_approve" not in desk.get(detail(extraction)).text
    desk.post(detail(extraction), form_of(extraction, nama="TERLALU CEPAT"))

    answer(extraction.session_id, CARD_JSON)
    page = desk.get(detail(extraction)).text

    extraction.refresh_from_db()
    assert (extraction.state, extraction.nama) == ("read", CARD["nama"])
    assert CARD["nama"] in page


def test_a_missing_reading_is_a_plain_redirect(desk):
    assert desk.get(f"{LIST}00000000-0000-0000-0000-000000000000/change/").status_code == 302
    assert desk.get(f"{LIST}nonsense/change/").status_code == 302
