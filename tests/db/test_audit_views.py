"""Who looks at a card, or does something to it, leaves a line in the audit log; nothing is shown without one."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import DatabaseError
from django.test import Client

from ocr.audit import recording
from ocr.audit.models import AuditEntry
from ocr.models import KtpExtraction
from sessions_app.callers import caller_with_key
from sessions_app.models import ChatSession
from tests.db.ktp_cards import CARD_JSON, FLAGGED_JSON, answer, read_extraction, reading_extraction, specimen
from tests.db.session_states import completed
from tests.ktp_card import CARD

# Some views are asynchronous: their database work runs on other threads, so nothing may hide in a transaction.
pytestmark = pytest.mark.django_db(transaction=True)

ADDRESS = "192.0.2.7"


def browser_of(user: User) -> Client:
    client = Client(REMOTE_ADDR=ADDRESS, raise_request_exception=False)
    client.force_login(user)
    return client


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


@pytest.fixture
def tray(clerk):
    return browser_of(clerk)


@pytest.fixture
def desk(reviewer):
    return browser_of(reviewer)


def lines(card: KtpExtraction | None = None) -> list[tuple[str, str, str]]:
    """Action, person and address of the lines, oldest first."""
    rows = AuditEntry.objects.order_by("sequence")
    if card is not None:
        rows = rows.filter(card=card.pk)
    return list(rows.values_list("action", "actor_name", "address"))


@pytest.mark.parametrize(
    ("path", "action"),
    [
        ("/ocr/{}/", "viewed"),
        ("/ocr/{}/image/", "viewed_image"),
    ],
)
def test_a_clerk_who_looks_at_a_card_leaves_a_line(tray, clerk, path, action):
    card = read_extraction(clerk)
    tray.get(path.format(card.pk))
    assert lines(card) == [(action, "clerk", ADDRESS)]


@pytest.mark.parametrize(
    ("path", "action"),
    [
        ("/admin/ocr/review/{}/", "viewed"),
        ("/admin/ocr/ktpextraction/{}/change/", "viewed"),
        ("/admin/ocr/ktpextraction/{}/history/", "viewed_history"),
        ("/ocr/{}/image/", "viewed_image"),
    ],
)
def test_a_reviewer_who_looks_at_a_card_leaves_a_line(desk, path, action):
    card = read_extraction()
    desk.get(path.format(card.pk))
    assert lines(card) == [(action, "reviewer", ADDRESS)]


@pytest.mark.parametrize("path", ["/admin/ocr/review/", "/admin/ocr/ktpextraction/"])
def test_a_list_is_a_line_that_names_its_cards(desk, path):
    cards = {str(read_extraction().pk), str(read_extraction().pk)}
    desk.get(path)
    line = AuditEntry.objects.get()
    assert (line.action, line.facts["count"], set(line.facts["cards"])) == ("listed", 2, cards)


def test_a_list_of_no_cards_is_no_line(desk):
    desk.get("/admin/ocr/review/")
    assert lines() == []


def test_the_tray_is_a_line_and_its_questions_another(tray, clerk):
    card = read_extraction(clerk)
    tray.get("/ocr/")
    assert AuditEntry.objects.get().facts == {"where": "tray", "count": 1, "cards": [str(card.pk)]}
    for _ in range(3):
        tray.get(f"/ocr/progress/?reading={card.pk}")
    assert lines(card) == [("listed", "clerk", ADDRESS)]


def test_without_folding_each_question_is_a_line(tray, clerk, settings):
    settings.OCR_AUDIT_POLL_SECONDS = 0
    card = read_extraction(clerk)
    for _ in range(3):
        tray.get(f"/ocr/progress/?reading={card.pk}")
    assert lines(card) == [("listed", "clerk", ADDRESS)] * 3


def test_who_follows_the_models_text_leaves_a_line(tray, clerk):
    card = reading_extraction(clerk)
    answer(card.session_id, CARD_JSON)
    tray.get(f"/ocr/{card.pk}/events/").close()
    assert lines(card) == [("followed", "clerk", ADDRESS)]


def test_an_upload_is_a_line(tray):
    tray.post("/ocr/", {"image": SimpleUploadedFile("ktp.jpg", specimen(), "image/jpeg")})
    assert lines(KtpExtraction.objects.get()) == [("uploaded", "clerk", ADDRESS)]


def test_a_cancel_is_a_line(tray, clerk):
    card = reading_extraction(clerk)
    tray.post(f"/ocr/{card.pk}/cancel/")
    assert lines(card)[0] == ("cancelled", "clerk", ADDRESS)


def test_what_a_reviewer_does_is_lines_that_name_fields_and_no_values(desk):
    card = read_extraction(text=FLAGGED_JSON)
    page = f"/admin/ocr/review/{card.pk}/"

    desk.post(page, {"version": card.version, "nama": "SITI SPECIMEN", "nik": CARD["nik"], "_save": "1"})
    card.refresh_from_db()
    desk.post(page, {"version": card.version, "_approve": "1"})

    corrected, approved = AuditEntry.objects.filter(action__in=("corrected", "approved")).order_by("sequence")
    assert corrected.facts == {"version": 2, "fields": ["nik", "nama"]}
    assert (approved.actor_name, approved.address, approved.card) == ("reviewer", ADDRESS, card.pk)
    assert not any("SITI" in str(entry.facts) or CARD["nik"] in str(entry.facts) for entry in AuditEntry.objects.all())


def test_a_decision_in_bulk_is_a_line_for_each_card(desk):
    cards = [read_extraction(), read_extraction()]
    desk.post(
        "/admin/ocr/ktpextraction/",
        {"action": "approve_selected", "_selected_action": [str(card.pk) for card in cards]},
    )
    assert [lines(card)[-1][0] for card in cards] == ["approved", "approved"]


def test_a_decision_that_is_refused_is_no_line(desk):
    card = read_extraction(text=FLAGGED_JSON)
    desk.post(f"/admin/ocr/review/{card.pk}/", {"version": card.version, "_approve": "1"})
    assert "approved" not in [action for action, *_ in lines(card)]


@pytest.mark.parametrize("path", ["/ocr/{}/", "/ocr/{}/image/"])
def test_nothing_is_shown_that_cannot_be_recorded(tray, clerk, monkeypatch, path):
    card = read_extraction(clerk)

    def fail() -> None:
        raise DatabaseError

    monkeypatch.setattr(recording, "_locked_head", fail)
    response = tray.get(path.format(card.pk))
    assert response.status_code >= 500 and CARD["nama"].encode() not in response.content


# --- What a card's session says ---


def open_card() -> KtpExtraction:
    """A card that is being read: the text of its session goes when it was read."""
    card = reading_extraction()
    answer(card.session_id, CARD_JSON)
    session = card.session
    assert session is not None
    session.media.create(position=0, kind="image", content_type="image/png", sha256="0" * 64, size=1, data=b"x")
    return card


def pages_of_session(card: KtpExtraction) -> dict[str, str]:
    session = card.session
    assert session is not None
    key = session.pk.replace("_", "_5F")
    chunk = session.chunks.get(index=1)
    return {
        "transcript": f"/admin/sessions_app/chatsession/{key}/change/",
        "chunks": f"/admin/sessions_app/chunk/?session__id__exact={session.pk}",
        "chunk": f"/admin/sessions_app/chunk/{chunk.pk}/change/",
        "media": f"/admin/sessions_app/chatsession/{session.pk}/media/0/",
    }


@pytest.mark.parametrize(
    ("page", "action"),
    [
        ("transcript", "viewed_transcript"),
        ("chunks", "viewed_transcript"),
        ("chunk", "viewed_transcript"),
        ("media", "viewed_image"),
    ],
)
def test_who_reads_the_session_of_a_card_leaves_a_line(page, action):
    card = open_card()
    browser = browser_of(User.objects.create_superuser("root"))
    assert browser.get(pages_of_session(card)[page]).status_code == 200
    assert lines(card) == [(action, "root", ADDRESS)]


def test_an_export_of_sessions_is_a_line_for_each_card():
    card = open_card()
    browser = browser_of(User.objects.create_superuser("root"))
    form = {"action": "export_selected", "_selected_action": [card.session_id]}
    browser.post("/admin/sessions_app/chatsession/", form)
    assert lines(card) == [("exported", "root", ADDRESS)]


def test_who_may_not_read_the_session_of_a_card_leaves_no_line():
    card = open_card()
    operator = User.objects.create_user("operator", is_staff=True)
    operator.groups.set(Group.objects.filter(name="Operator"))
    for page in pages_of_session(card).values():
        browser_of(operator).get(page)
    assert lines(card) == []


def test_sessions_of_chats_are_no_business_of_this_log():
    session = completed("hello")
    key = session.pk.replace("_", "_5F")
    browser_of(User.objects.create_superuser("root")).get(f"/admin/sessions_app/chatsession/{key}/change/")
    assert lines() == []


def test_a_key_that_reads_the_events_of_its_card_leaves_a_line(client, settings):
    key = "k" * 40
    settings.API_KEYS = [key]
    card = open_card()
    ChatSession.objects.filter(pk=card.session_id).update(caller=caller_with_key(key))
    url, headers = f"/v1/sessions/{card.session_id}/events", {"Authorization": f"Bearer {key}"}
    response = client.get(url, headers=headers, REMOTE_ADDR=ADDRESS)
    assert response.status_code == 200
    response.close()
    assert lines(card) == [("viewed_transcript", caller_with_key(key), ADDRESS)]
