"""Without a data key cards are refused clearly: one error on the API, one page elsewhere. Everything else works."""

from __future__ import annotations

import asyncio

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import AsyncClient, Client
from django.urls import reverse

from ocr.extraction import complete_finished
from ocr.models import KtpExtraction
from sessions_app.encryption.keyring import new_item
from sessions_app.models import ChatSession, SessionMedia
from tests.db.ktp_cards import answer, read_extraction, reading_extraction, specimen
from tests.ktp_card import CARD

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("sent", "told")]

LOST = "the-lost-one"


@pytest.fixture
def admin_user() -> User:
    return User.objects.create_superuser("admin")


@pytest.fixture
def browser(admin_user) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(admin_user)
    return client


@pytest.fixture
def card(admin_user, monkeypatch) -> KtpExtraction:
    """A reading whose key is not in ``DATA_KEYS`` any more."""
    monkeypatch.setattr(settings, "DATA_KEYS", [new_item("the-lost-one")])
    card = read_extraction(admin_user)
    monkeypatch.setattr(settings, "DATA_KEYS", [new_item("another")])
    return card


@pytest.fixture
def no_keys(monkeypatch):
    monkeypatch.setattr(settings, "DATA_KEYS", [])
    monkeypatch.setattr("sessions_app.encryption.keyring.key_file", lambda: None)


def picture() -> SimpleUploadedFile:
    return SimpleUploadedFile("ktp.jpg", specimen(), "image/jpeg")


@pytest.mark.parametrize("language", ["id", "en"])
def test_every_page_of_a_reading_is_refused_by_name_of_the_key(browser, card, language):
    browser.cookies[settings.LANGUAGE_COOKIE_NAME] = language
    for address in (
        reverse("ocr:result", args=[card.pk]),
        reverse("ocr:image", args=[card.pk]),
        reverse("admin:ktp_review_card", args=[card.pk]),
        reverse("admin:ocr_ktpextraction_change", args=[card.pk]),
    ):
        page = browser.get(address)
        assert (page.status_code, address) == (503, address)
        assert LOST in page.content.decode()
        assert page["Cache-Control"] == "no-store, private"


def test_a_script_of_a_page_gets_the_reason_as_json(browser, card):
    reply = browser.post(reverse("ocr:check", args=[card.pk]), {"nik": "1"}, headers={"accept": "application/json"})

    assert reply.status_code == 503
    assert reply.json()["message"]


def test_the_lists_work_and_show_nothing_of_it(browser, card):
    for name in ("ocr:upload", "admin:ktp_review", "admin:ocr_ktpextraction_changelist"):
        page = browser.get(reverse(name))
        assert page.status_code == 200
        assert CARD["nik"][-4:] not in page.content.decode()


def test_the_pages_of_its_session_work(browser, card):
    session = ChatSession.objects.get()
    SessionMedia.objects.create(session=session, position=0, kind="image", content_type="image/jpeg", size=1, data=b"x")
    chunks = f"{reverse('admin:sessions_app_chunk_changelist')}?session__id__exact={session.pk}"
    for address in (reverse("admin:sessions_app_chatsession_changelist"), chunks):
        assert browser.get(address).status_code == 200
    page = browser.get(reverse("admin:sessions_app_chatsession_change", args=[session.pk.replace("_", "_5F")]))
    assert page.status_code == 200
    assert CARD["nik"] not in page.content.decode()


def test_a_lost_reading_can_be_erased(browser, card):
    assert KtpExtraction.objects.filter(pk=card.pk).delete()[0]


def test_without_any_key_form_and_desk_refuse_before_anything_is_sent(browser, no_keys):
    for name in ("ocr:upload", "admin:ktp_review"):
        page = browser.get(reverse(name))
        assert page.status_code == 503
        assert "no key" in page.content.decode()
    assert browser.post(reverse("ocr:upload"), {"image": picture()}).status_code == 503
    assert not KtpExtraction.objects.exists()


def test_without_any_key_the_api_refuses_with_one_error_and_stores_nothing(no_keys):
    reply = Client(raise_request_exception=False).post("/ktp-ocr/", {"image": picture()})

    assert reply.status_code == 503
    assert reply.json()["error"]["code"] == "data_key_missing"
    assert "DATA_KEYS" in reply.json()["error"]["message"]
    assert not KtpExtraction.objects.exists()
    assert not ChatSession.objects.exists()


def test_without_any_key_everything_else_works(browser, no_keys):
    for name in ("home", "admin:index", "admin:sessions_app_chatsession_changelist"):
        assert browser.get(reverse(name)).status_code == 200
    assert Client().get("/health").status_code == 200


def test_a_reading_that_ended_waits_for_its_key(monkeypatch):
    card = reading_extraction()
    answer(card.session_id, '{"nik": "3171990101900001"}')
    keys = settings.DATA_KEYS
    monkeypatch.setattr(settings, "DATA_KEYS", [new_item("another")])
    assert complete_finished() == 0

    monkeypatch.setattr(settings, "DATA_KEYS", keys)
    assert complete_finished() == 1
    assert KtpExtraction.objects.get().nik == "3171990101900001"


def test_the_page_comes_from_an_asynchronous_server_too(admin_user, no_keys):
    async def statuses() -> list[int]:
        client = AsyncClient(raise_request_exception=False)
        await client.aforce_login(admin_user)
        return [(await client.get(reverse(name))).status_code for name in ("ocr:upload", "admin:ktp_review")]

    assert asyncio.run(statuses()) == [503, 503]
