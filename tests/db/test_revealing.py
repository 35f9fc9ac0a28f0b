"""NIK and date of birth are in no page until somebody who needs them reveals those of one card, which is recorded."""

from __future__ import annotations

import re
import time

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from ocr.audit.models import AuditEntry
from ocr.masking import mask
from ocr.models import KtpExtraction
from tests.db.ktp_cards import FLAGGED_JSON, read_extraction
from tests.ktp_card import CARD

pytestmark = pytest.mark.django_db

NIK, BORN = CARD["nik"], CARD["tgl_lahir"]
OTHER_NIK = "3171990101900777"


@pytest.fixture
def clerk():
    user = User.objects.create_user("clerk")
    user.user_permissions.add(Permission.objects.get(codename="add_ktpextraction"))
    return user


@pytest.fixture
def reviewer():
    user = User.objects.create_user("reviewer", is_staff=True)
    user.groups.set(Group.objects.filter(name="Reviewer"))
    return user


@pytest.fixture(params=["tray", "desk", "admin"])
def opened(request, clerk, reviewer):
    """A browser, a card, and the address of the card's page."""
    client, card = Client(), read_extraction(clerk, uncertain=NIK[4])
    client.force_login(clerk if request.param == "tray" else reviewer)
    pages = {"tray": "/ocr/{}/", "desk": "/admin/ocr/review/{}/", "admin": "/admin/ocr/ktpextraction/{}/change/"}
    return client, card, pages[request.param].format(card.pk)


def reveal(client, card, page, **changes):
    return client.post(page, {"version": card.version, "action": "reveal", "_reveal": "1", **changes})


def revealed_lines():
    return AuditEntry.objects.filter(action="revealed")


@pytest.mark.parametrize(
    ("path", "value", "masked"),
    [
        ("nik", NIK, "317199••••••0001"),
        ("nik", "12345", "12•••"),
        ("tgl_lahir", "17-08-1990", "••-••-••••"),
        ("tgl_lahir", "17 AGUSTUS 1990", "•• ••••••• ••••"),
        ("tgl_lahir", "", ""),
        ("nama", "BUDI S", "B••• S"),
    ],
)
def test_what_a_mask_shows(path, value, masked):
    assert mask(path, value) == masked


def test_a_page_does_not_have_them_before_they_are_revealed(opened):
    client, _, page = opened
    text = client.get(page).text
    assert NIK not in text and BORN not in text
    assert "317199••••••0001" in text and "••-••-••••" in text
    # Neither a flag nor the history says which digit is uncertain.
    assert "may be" not in text
    assert "Show NIK and date of birth" in text
    assert not revealed_lines()


def test_a_reveal_shows_them_and_is_recorded(opened, django_user_model):
    client, card, page = opened
    client.get(page)
    assert reveal(client, card, page).url == page
    text = client.get(page).text
    assert f'value="{NIK}"' in text and f'value="{BORN}"' in text
    assert "Show NIK and date of birth" not in text
    line = revealed_lines().get()
    assert line.card == card.pk and line.facts["fields"] == ["nik", "tgl_lahir"]
    assert line.actor_name in ("clerk", "reviewer")


def test_a_get_never_reveals(opened):
    client, _, page = opened
    assert NIK not in client.get(page, {"action": "reveal", "_reveal": "1"}).text
    assert not revealed_lines()


def test_a_reveal_needs_the_token_of_the_page(opened, clerk, reviewer):
    _, card, page = opened
    client = Client(enforce_csrf_checks=True)
    client.force_login(clerk if page.startswith("/ocr/") else reviewer)
    assert reveal(client, card, page).status_code == 403
    assert not revealed_lines()


def test_a_reveal_is_of_one_card_and_one_log_in(opened, clerk, reviewer):
    client, card, page = opened
    reveal(client, card, page)
    another = read_extraction(clerk)
    assert NIK not in client.get(page.replace(str(card.pk), str(another.pk))).text
    elsewhere = Client()
    elsewhere.force_login(clerk if page.startswith("/ocr/") else reviewer)
    assert NIK not in elsewhere.get(page).text


def test_a_reveal_ends(opened, monkeypatch):
    client, card, page = opened
    reveal(client, card, page)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 301)
    assert NIK not in client.get(page).text


def test_what_was_typed_and_ticked_by_then_stays(opened):
    client, _, page = opened
    card = read_extraction(None if "admin" in page else User.objects.get(username="clerk"), FLAGGED_JSON)
    page = re.sub(r"[0-9a-f-]{36}", str(card.pk), page)
    tick = "nik:nik_birth_date_differs" if "admin" in page else "nik|nik_birth_date_differs"
    text = reveal(client, card, page, nama="SITI SPECIMEN", confirm=[tick]).text
    assert 'value="SITI SPECIMEN"' in text and f'value="{card.nik}"' in text
    assert f'value="{tick}" checked' in text
    card.refresh_from_db()
    assert card.nama == CARD["nama"], "nothing is stored"


def test_a_form_filled_from_an_older_version_is_told_so_when_it_reveals(opened):
    client, card, page = opened
    old = card.version
    card.correct(User.objects.create_user("other"), {"agama": "KRISTEN"}, card.version)
    card.version = old
    response = reveal(client, card, page, nama="SITI SPECIMEN")
    assert response.status_code == 409
    assert "other" in response.text and 'value="SITI SPECIMEN"' in response.text


def test_a_stale_form_does_not_show_them_in_what_others_have_changed(opened):
    client, card, page = opened
    old, other = card.version, User.objects.create_user("other")
    for nik in (OTHER_NIK, "3171990101900888"):
        card.correct(other, {"nik": nik}, card.version)
    masks = {"nik": "317199••••••0001", "tgl_lahir": "••-••-••••"}
    form = {"version": old, "nama": "SITI SPECIMEN", "_save": "1", "action": "save", **masks}
    response = client.post(page, form)
    assert response.status_code == 409
    assert "317199••••••0777" in response.text
    assert not any(nik in response.text for nik in (NIK, OTHER_NIK, "3171990101900888"))
    assert not revealed_lines()


def test_a_masked_value_that_comes_back_changes_nothing(opened):
    client, card, page = opened
    masks = {"nik": "317199••••••0001", "tgl_lahir": "••-••-••••"}
    client.post(page, {"version": card.version, "nama": "SITI SPECIMEN", "_save": "1", "action": "save", **masks})
    card.refresh_from_db()
    assert (card.nik, card.tgl_lahir, card.nama) == (NIK, BORN, "SITI SPECIMEN")


def test_a_form_without_the_hidden_fields_keeps_them(opened):
    client, card, page = opened
    client.post(page, {"version": card.version, "nama": "SITI SPECIMEN", "_save": "1", "action": "save"})
    card.refresh_from_db()
    assert (card.nik, card.tgl_lahir, card.nama) == (NIK, BORN, "SITI SPECIMEN")


def test_the_history_of_a_hidden_field_is_masked_too(opened):
    client, card, page = opened
    card.correct(User.objects.create_user("other"), {"nik": OTHER_NIK}, card.version)
    text = client.get(page).text
    assert NIK not in text and OTHER_NIK not in text
    # A stale form that did not have them is not told either.
    card.correct(User.objects.get(username="other"), {"nik": NIK}, card.version)
    stale = client.post(page, {"version": card.version - 1, "nama": "SITI SPECIMEN", "_save": "1", "action": "save"})
    assert stale.status_code == 409
    assert NIK not in stale.text and OTHER_NIK not in stale.text


def test_what_is_typed_into_a_hidden_field_is_shown_to_who_typed_it(opened):
    client, card, page = opened
    reveal(client, card, page)
    card.correct(User.objects.create_user("other"), {"agama": "KRISTEN"}, card.version)
    response = client.post(page, {"version": card.version - 1, "nik": OTHER_NIK, "_save": "1", "action": "save"})
    assert response.status_code == 409 and f'value="{OTHER_NIK}"' in response.text


def test_checking_what_is_typed_quotes_nothing_hidden(client, clerk):
    card = read_extraction(clerk, uncertain=NIK[4])
    client.force_login(clerk)
    told = client.post(f"/ocr/{card.pk}/check/", {"agama": "ISLM"}, headers={"Accept": "application/json"}).json()
    assert "may be" not in told["fields"]["nik"]["html"] and NIK not in str(told)


@pytest.mark.parametrize("page", ["/admin/ocr/review/{}/", "/admin/ocr/ktpextraction/{}/change/", "/ocr/{}/"])
def test_an_auditor_reveals_nothing(client, django_user_model, page):
    auditor = django_user_model.objects.create_user("auditor", is_staff=True)
    auditor.groups.set(Group.objects.filter(name="Auditor"))
    client.force_login(auditor)
    card = read_extraction()
    assert reveal(client, card, page.format(card.pk)).status_code == 403
    text = client.get(page.format(card.pk)).text
    assert NIK not in text and BORN not in text and "Show NIK" not in text
    assert not revealed_lines()


def test_the_models_answer_is_masked_in_the_admin_until_then(client, reviewer):
    card = read_extraction()
    client.force_login(reviewer)
    page = f"/admin/ocr/ktpextraction/{card.pk}/change/"
    before = client.get(page).text
    reveal(client, card, page)
    after = client.get(page).text
    assert "&quot;nik&quot;" not in before and "&quot;nik&quot;" in after


@pytest.fixture(params=["desk", "admin"])
def reviewed(request, clerk, reviewer, settings):
    """A reviewer's browser, a card that waits, and the address of the card's page, where approvals need a reveal."""
    settings.OCR_REVEAL_BEFORE_APPROVAL = True
    client, card = Client(), read_extraction(clerk)
    client.force_login(reviewer)
    pages = {"desk": "/admin/ocr/review/{}/", "admin": "/admin/ocr/ktpextraction/{}/change/"}
    return client, card, pages[request.param].format(card.pk)


def approve(client, card, page, **changes):
    return client.post(page, {"version": card.version, "action": "approve", "_approve": "1", **changes})


def test_where_it_is_asked_for_nothing_is_approved_before_a_reveal(reviewed):
    client, card, page = reviewed
    refused = approve(client, card, page, nama="NAMA LAIN")
    assert refused.status_code == 409
    assert "Show NIK and date of birth before you approve" in refused.text
    assert "NAMA LAIN" in refused.text  # what was typed stays
    before = card.version
    card.refresh_from_db()
    assert (card.review, card.nama, card.version) == ("needs_review", CARD["nama"], before)
    assert not revealed_lines()

    reveal(client, card, page)
    assert approve(client, card, page).status_code == 302
    card.refresh_from_db()
    assert card.review == "approved"


def test_an_approval_after_the_reveal_has_ended_shows_the_values_again_and_says_so(reviewed):
    client, card, page = reviewed
    # The form was opened while they were revealed, so it has them.
    refused = approve(client, card, page, nik="1111111111111111")
    assert refused.status_code == 409
    assert "shown again" in refused.text
    assert "1111111111111111" in refused.text
    assert approve(client, card, page).status_code == 302


@pytest.mark.parametrize(
    ("button", "status"), [({"_approve": "1"}, 409), ({"_reject": "1"}, 409), ({"_approve": "1", "version": "?"}, 400)]
)
def test_ticks_stay_when_nothing_was_changed(reviewed, clerk, button, status):
    client, card, page = reviewed
    flagged = read_extraction(clerk, FLAGGED_JSON)
    page = page.replace(str(card.pk), str(flagged.pk))
    [tick, *_] = re.findall(r'name="confirm" value="([^"]+)"', client.get(page).text)
    # An approval before the values were shown, a rejection without a reason, a form that is not valid.
    refused = client.post(page, {"version": flagged.version, "confirm": [tick], **button})
    assert refused.status_code == status
    assert f'value="{tick}" checked' in refused.text


def test_where_it_is_asked_for_nothing_is_approved_in_bulk(reviewed):
    client, card, _ = reviewed
    listing = "/admin/ocr/ktpextraction/"
    assert "approve_selected" not in client.get(listing).text
    client.post(listing, {"action": "approve_selected", "_selected_action": [str(card.pk)]})
    card.refresh_from_db()
    assert card.review == "needs_review"


def test_a_card_with_nothing_to_reveal_is_approved_as_ever(reviewed):
    client, card, page = reviewed
    KtpExtraction.objects.filter(pk=card.pk).update(nik="", tgl_lahir="", fields_read={}, problems=[], flagged=False)
    assert approve(client, card, page).status_code == 302
    card.refresh_from_db()
    assert card.review == "approved"
