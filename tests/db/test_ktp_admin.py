from __future__ import annotations

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission

from ocr.models import KtpExtraction
from ocr.reading.schema import FIELDS
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
    """What the page would send now."""
    values = {field.column: getattr(extraction, field.column) for field in FIELDS}
    return {"version": extraction.version, **values, **changes}


def detail(extraction):
    return f"{LIST}{extraction.pk}/change/"


def run_action(desk, name, *extractions, **more):
    chosen = {**more, "action": name, "_selected_action": [str(extraction.pk) for extraction in extractions]}
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

    with django_assert_max_num_queries(17) as queries:
        assert desk.get(LIST).status_code == 200
    assert not any("ktpimage" in query["sql"] for query in queries)


def test_the_list_is_found_by_id_and_by_session_and_filtered(desk):
    wanted, other = read_extraction(), read_extraction(text=FLAGGED_JSON)

    found = [desk.post("/admin/ocr/find/", {"term": term}).url for term in (str(wanted.pk), wanted.session_id)]
    for query in (*found, f"{LIST}?flagged__exact=0"):
        page = desk.get(query).text
        assert str(wanted.pk) in page, query
        assert str(other.pk) not in page, query


def test_nobody_makes_a_reading_by_hand(desk):
    assert desk.get(f"{LIST}add/").status_code == 403


def test_staff_without_permission_sees_nothing(client, django_user_model):
    client.force_login(django_user_model.objects.create_user("other", is_staff=True))

    assert client.get(LIST).status_code == 403
    assert client.get(detail(read_extraction())).status_code == 403


def test_the_detail_page_shows_the_image_beside_fields_and_problems(desk):
    extraction = read_extraction(text=FLAGGED_JSON)

    assert desk.post(detail(extraction), form_of(extraction, _reveal="1")).url == detail(extraction)
    page = desk.get(detail(extraction)).text

    assert f'src="/ocr/{extraction.pk}/image/"' in page
    assert desk.get(f"/ocr/{extraction.pk}/image/").status_code == 200
    assert f'href="/admin/sessions_app/chatsession/{quote(extraction.session_id or "")}/change/"' in page
    assert f'name="nik" value="{extraction.nik}"' in page
    assert "differs from the printed one" in page
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
    reopening = {"version": extraction.version, "_reopen": "1"}
    desk.post(detail(extraction), reopening)
    extraction.refresh_from_db()
    assert extraction.review == "approved"
    desk.post(detail(extraction), {**reopening, "reopen_reason": "the name is wrong"})
    extraction.refresh_from_db()
    assert (extraction.review, extraction.reviewed_by) == ("needs_review", None)


def test_the_second_of_two_reviewers_is_told_what_the_first_did(desk, reviewer, django_user_model):
    extraction = read_extraction()
    seen = form_of(extraction, _approve="1")
    first = django_user_model.objects.create_user("first")
    extraction.reject(first, "blurred", "", extraction.version)

    response = desk.post(detail(extraction), seen)

    extraction.refresh_from_db()
    assert (extraction.review, extraction.reviewed_by) == ("rejected", first)
    assert response.status_code == 409
    assert "Somebody has changed this card" in response.text
    assert "<b>first</b>: Rejected" in response.text and "Blurred" in response.text


def test_an_old_tab_reverts_nothing_and_history_blames_the_right_person(desk, reviewer, django_user_model):
    extraction = read_extraction()
    old_tab = form_of(extraction, agama="KRISTEN")
    other = django_user_model.objects.create_user("other")
    extraction.correct(other, {"nama": "NAMA YANG BENAR"}, extraction.version)

    response = desk.post(detail(extraction), old_tab)

    extraction.refresh_from_db()
    assert (extraction.nama, extraction.agama) == ("NAMA YANG BENAR", CARD["agama"])
    assert set(extraction.history.filter(kind="corrected").values_list("actor_name", "field")) == {("other", "nama")}
    # The name that the old tab carried along is no change of this reviewer; the religion is, and is kept in the form.
    assert response.status_code == 409
    assert 'name="agama" value="KRISTEN"' in response.text
    assert 'name="nama" value="NAMA YANG BENAR"' in response.text
    assert f'value="{extraction.version}"' in response.text


def test_an_old_tab_that_approves_a_wrong_number_approves_nothing(desk, django_user_model):
    extraction = read_extraction(text=FLAGGED_JSON)
    confirm = [f"{flag.field}:{flag.code}" for flag in extraction.open_flags]
    old_tab = form_of(extraction, confirm=confirm, _approve="1")
    extraction.correct(django_user_model.objects.create_user("other"), {"nik": CARD["nik"]}, extraction.version)

    assert desk.post(detail(extraction), old_tab).status_code == 409

    extraction.refresh_from_db()
    assert (extraction.nik, extraction.review) == (CARD["nik"], "needs_review")


def test_where_both_changed_a_field_one_chooses(desk, django_user_model):
    extraction = read_extraction()
    old_tab = form_of(extraction, nama="DARI SAYA")
    extraction.correct(django_user_model.objects.create_user("other"), {"nama": "DARI DIA"}, extraction.version)

    page = desk.post(detail(extraction), old_tab).text

    for value in ("DARI DIA", "DARI SAYA"):
        assert f'type="radio" name="nama" value="{value}"' in page
    extraction.refresh_from_db()
    assert extraction.nama == "DARI DIA"
    desk.post(detail(extraction), form_of(extraction, nama="DARI SAYA"))
    extraction.refresh_from_db()
    assert extraction.nama == "DARI SAYA"


def test_saving_after_another_approved_says_that_nothing_was_stored(desk, django_user_model):
    extraction = read_extraction()
    old_tab = form_of(extraction, nama="TERLAMBAT", _save="1")
    extraction.approve(django_user_model.objects.create_user("other"), extraction.version)

    response = desk.post(detail(extraction), old_tab, follow=True)

    assert "success" not in response.text
    assert "Nothing of yours is stored yet" in response.text
    assert "<b>other</b>: Approved" in response.text and "You typed: TERLAMBAT" in response.text
    extraction.refresh_from_db()
    assert (extraction.nama, extraction.review) == (CARD["nama"], "approved")


def test_a_form_without_a_version_changes_nothing(desk):
    extraction = read_extraction()

    response = desk.post(detail(extraction), {"nama": "LAIN", "_approve": "1"})

    assert response.status_code == 400
    extraction.refresh_from_db()
    assert (extraction.nama, extraction.review) == (CARD["nama"], "needs_review")


@pytest.mark.parametrize(("column", "value"), [("nik", "abc"), ("tgl_lahir", "99-99-9999")])
def test_what_is_no_number_and_no_date_is_asked_about_before_it_is_approved(desk, column, value):
    extraction = read_extraction()

    response = desk.post(detail(extraction), form_of(extraction, _approve="1", **{column: value}))

    extraction.refresh_from_db()
    assert response.status_code == 409 and "answer each flag" in response.text
    # What was typed is kept: a genuine card may be printed so.
    assert (getattr(extraction, column), extraction.review) == (value, "needs_review")
    confirm = [f"{flag.field}:{flag.code}" for flag in extraction.open_flags]
    desk.post(detail(extraction), form_of(extraction, _approve="1", confirm=confirm))
    extraction.refresh_from_db()
    assert extraction.review == "approved"
    assert "to check" not in desk.get(LIST).text
    assert "desk-flag" not in desk.get(detail(extraction)).text


def test_a_confirmation_ticked_for_the_value_that_was_shown_is_not_taken_for_a_new_one(desk):
    extraction = read_extraction(text=FLAGGED_JSON)
    confirm = [f"{flag.field}:{flag.code}" for flag in extraction.open_flags]

    desk.post(detail(extraction), form_of(extraction, nik="3171990301900001", confirm=confirm, _approve="1"))

    extraction.refresh_from_db()
    assert extraction.review == "needs_review"
    assert [flag.field for flag in extraction.open_flags] == ["nik"]


@pytest.mark.parametrize(
    ("reason", "note", "state"),
    [
        ("", "", "needs_review"),
        ("other", "", "needs_review"),
        ("nonsense", "x", "needs_review"),
        ("blurred", "", "rejected"),
        ("other", "torn in two", "rejected"),
    ],
)
def test_a_rejection_has_a_reason(desk, reason, note, state):
    extraction = read_extraction()

    desk.post(detail(extraction), form_of(extraction, _reject="1", reason=reason, note=note))

    extraction.refresh_from_db()
    assert extraction.review == state
    if state == "rejected":
        assert note in desk.get(detail(extraction)).text


def test_nothing_decides_by_itself_when_enter_is_pressed(desk):
    # The first submit button of a form is what Enter in a field presses.
    for extraction in (read_extraction(), reading_extraction()):
        if extraction.state == "reading":
            extraction.mark_failed("cancelled")
        page = desk.get(detail(extraction)).text
        form = page[page.index('id="ktpextraction_form"') :]
        first = re.search(r"<(button|input)[^>]*type=\"submit\"[^>]*>", form)
        assert first is not None and "disabled" in first[0]


# --- Who may do what ---


def permit(user, *codenames):
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))


def test_reviewing_needs_its_own_permission(desk, reviewer):
    permit(reviewer, "view_ktpextraction", "change_ktpextraction", "view_ktp_image")
    extraction = read_extraction()

    assert "_approve" not in desk.get(detail(extraction)).text
    assert "approve_selected" not in desk.get(LIST).text
    assert desk.post(detail(extraction), form_of(extraction, _approve="1")).status_code == 403
    assert desk.post(detail(extraction), form_of(extraction, nama="LAIN")).status_code == 403
    run_action(desk, "approve_selected", extraction)

    extraction.refresh_from_db()
    assert (extraction.review, extraction.nama) == ("needs_review", CARD["nama"])


def test_a_reviewer_who_may_not_change_values_decides_on_the_card_as_in_bulk(desk, reviewer):
    permit(reviewer, "view_ktpextraction", "view_ktp_image", "review_ktp")
    extraction = read_extraction()

    page = desk.get(detail(extraction)).text
    assert 'name="_approve"' in page and 'name="_reject"' in page
    assert 'name="nama"' not in page
    desk.post(detail(extraction), form_of(extraction, nama="LAIN", _approve="1"))

    extraction.refresh_from_db()
    assert (extraction.review, extraction.nama) == ("approved", CARD["nama"])


def test_whoever_does_not_review_sees_people_masked(desk, reviewer):
    permit(reviewer, "view_ktpextraction", "view_ktpchange")
    extraction = read_extraction(text=FLAGGED_JSON)
    extraction.correct(reviewer, {"nama": "NAMA LAIN LAGI", "nik": CARD["nik"]}, extraction.version)

    page = desk.get(detail(extraction)).text

    assert "317199••••••0001" in page
    identifying = [field.path for field in FIELDS if field.identifying]
    for value in (*(CARD[path] for path in identifying), "NAMA LAIN LAGI", extraction.fields_read["nik"]):
        assert value not in page
    assert extraction.raw_answer not in page and "raw" not in page


def test_the_bulk_actions_begin_with_decisions_and_end_with_what_cannot_be_taken_back(admin_client):
    read_extraction()
    page = admin_client.get(LIST).text

    assert page.index('value="approve_selected"') < page.index('value="reject_selected"')
    assert page.index('value="reject_selected"') < page.index('value="delete_selected"')


# --- In bulk ---


def test_bulk_approval_takes_the_clean_and_refuses_the_flagged(desk, reviewer):
    clean, flagged, waiting = read_extraction(), read_extraction(text=FLAGGED_JSON), reading_extraction()

    page = run_action(desk, "approve_selected", clean, flagged, waiting).text

    assert "1 reading was approved." in page
    assert "2 readings were left as they are" in page
    reviews = dict(KtpExtraction.objects.values_list("pk", "review"))
    assert reviews == {clean.pk: "approved", flagged.pk: "needs_review", waiting.pk: "needs_review"}
    clean.refresh_from_db()
    assert clean.reviewed_by == reviewer


def test_what_a_clerk_has_confirmed_is_not_approved_in_bulk(desk, reviewer):
    card = read_extraction(text=FLAGGED_JSON)
    for flag in card.open_flags:
        card.confirm(reviewer, flag.field, flag.code, card.version)

    assert "1 reading was left as it is" in run_action(desk, "approve_selected", card).text


def test_bulk_rejection_takes_what_was_read_for_a_reason(desk):
    read, waiting = read_extraction(text=FLAGGED_JSON), reading_extraction()

    assert "Choose the reason" in run_action(desk, "reject_selected", read, waiting).text
    page = run_action(desk, "reject_selected", read, waiting, reason="covered").text

    assert "1 reading was rejected." in page and "1 reading was left as it is" in page
    read.refresh_from_db()
    assert (read.review, read.reject_reason) == ("rejected", "covered")


def test_a_page_opened_while_the_model_reads_completes_and_never_overwrites(desk):
    extraction = reading_extraction()
    assert "_approve" not in desk.get(detail(extraction)).text
    assert desk.post(detail(extraction), form_of(extraction, nama="TERLALU CEPAT")).status_code == 409

    answer(extraction.session_id, CARD_JSON)
    page = desk.get(detail(extraction)).text

    extraction.refresh_from_db()
    assert (extraction.state, extraction.nama) == ("read", CARD["nama"])
    assert CARD["nama"] in page


def test_a_missing_reading_is_a_plain_redirect(desk):
    assert desk.get(f"{LIST}00000000-0000-0000-0000-000000000000/change/").status_code == 302
    assert desk.get(f"{LIST}nonsense/change/").status_code == 302
