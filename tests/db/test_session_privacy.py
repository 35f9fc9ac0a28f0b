"""What a model has read from a card is not for whoever may look at sessions."""

from __future__ import annotations

import io
import logging
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.test import Client

from ocr.extraction import complete_extraction
from sessions_app import watch_permissions
from sessions_app.callers import caller_of_user, caller_with_key
from sessions_app.models import ChatSession
from sessions_app.watch_permissions import LogIn, still_permitted
from tests.db.ktp_cards import CARD_JSON, answer, read_extraction, reading_extraction
from tests.db.session_states import completed, open_session
from tests.ktp_card import CARD

pytestmark = pytest.mark.django_db

VIEWS = ("view_chatsession", "view_chunk", "view_sessionmedia")


def signed_in(*codenames: str) -> tuple[Client, User]:
    user = User.objects.create_user(f"user-{len(codenames)}", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client, user


@pytest.fixture
def card_session() -> ChatSession:
    """A session that has read a card. Its reading is not stored yet: its text would go with that."""
    session = reading_extraction().session
    assert session is not None
    answer(session.pk, CARD_JSON)
    session.refresh_from_db()
    session.media.create(position=0, kind="image", content_type="image/png", sha256="0" * 64, size=1, data=b"x")
    return session


def pages_of(session: ChatSession) -> list[str]:
    chunk = session.chunks.get(index=1)
    # The admin writes an underscore in a key as _5F.
    key = session.pk.replace("_", "_5F")
    return [
        f"/admin/sessions_app/chatsession/{key}/change/",
        f"/admin/sessions_app/chunk/?session__id__exact={session.pk}",
        f"/admin/sessions_app/chunk/{chunk.pk}/change/",
        f"/admin/sessions_app/chatsession/{session.pk}/media/0/",
    ]


def test_the_right_to_view_sessions_does_not_show_what_a_card_says(card_session: ChatSession) -> None:
    client, _ = signed_in(*VIEWS)

    transcript, *others = (client.get(page) for page in pages_of(card_session))

    assert transcript.status_code == 200 and "about a person" in transcript.text
    for value in (CARD["nik"], CARD["nama"], CARD["alamat.name"], "Show the chunks", "/media/0/"):
        assert value not in transcript.text
    assert [response.status_code for response in others] == [403, 403, 403]


def test_an_address_with_two_sessions_shows_neither(card_session: ChatSession) -> None:
    client, _ = signed_in(*VIEWS)
    public = completed("Hello.")

    address = f"/admin/sessions_app/chunk/?session__id__exact={card_session.pk}&session__id__exact={public.pk}"

    assert client.get(address).status_code == 403


def test_whoever_reviews_cards_reads_their_sessions(card_session: ChatSession) -> None:
    client, _ = signed_in(*VIEWS, "review_ktp", "view_ktp_image")

    responses = [client.get(page) for page in pages_of(card_session)]

    assert {response.status_code for response in responses} == {200}
    assert all(CARD["nik"] in response.text for response in responses[:1])


@pytest.mark.parametrize("right", ["review_ktp", "view_ktp_image"])
def test_the_picture_of_a_card_takes_both_rights_of_cards(card_session: ChatSession, right: str) -> None:
    client, _ = signed_in(*VIEWS, right)
    page, *_, picture = pages_of(card_session)

    assert client.get(picture).status_code == 403
    assert client.get(f"{picture}thumbnail/").status_code == 403
    assert "/media/0/" not in client.get(page).text


def test_the_live_facts_of_a_card_say_nothing_of_what_it_says(card_session: ChatSession) -> None:
    client, _ = signed_in(*VIEWS)

    facts = client.get(f"/admin/sessions_app/chatsession/{card_session.pk}/facts/")

    assert facts.status_code == 200 and "Timeline" in facts.text
    assert CARD["nik"] not in facts.text and CARD["nama"] not in facts.text


def test_other_sessions_are_read_as_before() -> None:
    client, _ = signed_in(*VIEWS)

    assert "A plate." in client.get(pages_of(completed("A plate."))[0]).text


def test_a_live_view_needs_the_further_permission_for_as_long_as_it_lasts() -> None:
    client, user = signed_in(*VIEWS)
    watching = LogIn(client.session.session_key or "", user.pk, user.get_session_auth_hash())
    of_a_card = watching._replace(also="ocr.review_ktp")

    assert still_permitted([watching, of_a_card]) == {watching}
    user.user_permissions.add(Permission.objects.get(codename="review_ktp"))
    assert still_permitted([watching, of_a_card]) == {watching, of_a_card}
    assert watch_permissions.PERMISSION == "sessions_app.view_chatsession"


def test_no_log_line_of_a_reading_is_a_key_to_its_stream(caplog: pytest.LogCaptureFixture) -> None:
    # The loggers of our own code have levels of their own.
    for name in ("", "ocr", "inference", "sessions_app"):
        caplog.set_level(logging.DEBUG, name)

    extraction = read_extraction()
    complete_extraction(extraction.pk)

    assert "is read" in caplog.text
    assert str(extraction.session_id) not in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_clerks_card_is_not_served_to_whoever_knows_the_id_of_its_session(card_session: ChatSession) -> None:
    # No API keys are set here, and the admin's list shows the ids of all sessions.
    clerk = User.objects.create_user("clerk")
    ChatSession.objects.filter(pk=card_session.pk).update(caller=caller_of_user(clerk))
    events = f"/v1/sessions/{card_session.pk}/events"
    chat = {"messages": [{"role": "user", "content": "?"}], "session_id": card_session.pk}

    assert Client().get(events).status_code == 404
    assert Client().get(events, {"last_event_id": f"{card_session.pk}:0"}).status_code == 404
    asked = Client().post("/v1/chat/completions", chat, content_type="application/json")
    assert asked.status_code >= 400 and CARD["nama"] not in asked.text
    headers = {"Last-Event-ID": f"{card_session.pk}:0"}
    resumed = Client().post("/v1/chat/completions", {}, content_type="application/json", headers=headers)
    assert resumed.status_code == 404


@pytest.mark.django_db(transaction=True)
def test_nor_is_it_cancelled_by_whoever_knows_the_id() -> None:
    clerk = User.objects.create_user("clerk")
    session = open_session(origin="ocr", caller=caller_of_user(clerk))

    assert Client().post(f"/v1/cancel/{session.pk}").status_code == 404
    session.refresh_from_db()
    assert session.state == ChatSession.State.QUEUED

    ChatSession.objects.filter(pk=session.pk).update(caller="address:127.0.0.1")
    assert Client().post(f"/v1/cancel/{session.pk}").status_code == 200


KEYS = ["one-of-two-keys-of-the-server", "the-other-key-of-the-server"]


def events_for(session: ChatSession, key: str = "", **query: str) -> int:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return Client().get(f"/v1/sessions/{session.pk}/events", query, headers=headers).status_code


@pytest.mark.django_db(transaction=True)
def test_the_events_of_a_card_are_served_to_the_key_that_sent_it(card_session: ChatSession, settings: Any) -> None:
    settings.API_KEYS = KEYS
    ChatSession.objects.filter(pk=card_session.pk).update(caller=caller_with_key(KEYS[0]))

    assert events_for(card_session, KEYS[0]) == 200
    assert events_for(card_session, KEYS[0], last_event_id=f"{card_session.pk}:0") == 200
    assert events_for(card_session, KEYS[1]) == 404
    assert events_for(card_session) == 401


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("caller", ["", "address:127.0.0.1", "key:0123456789ab"])
def test_without_keys_nobody_reads_the_events_of_a_card(card_session: ChatSession, caller: str) -> None:
    ChatSession.objects.filter(pk=card_session.pk).update(caller=caller)

    assert events_for(card_session) == 404
    resumed = Client().post(
        "/v1/chat/completions",
        {"stream": True},
        content_type="application/json",
        headers={"Last-Event-ID": f"{card_session.pk}:0"},
    )
    assert resumed.status_code == 404 and CARD["nama"] not in resumed.text


def test_a_terminal_does_not_show_what_a_card_says(card_session: ChatSession) -> None:
    with pytest.raises(CommandError, match=r"about a person.* ocr\.review_ktp"):
        call_command("sessions", "tail", card_session.pk)


def test_of_the_error_of_a_card_an_operator_sees_the_code(card_session: ChatSession) -> None:
    error = {"message": f"Cannot read {CARD['nama']}.", "type": "server_error", "param": None, "code": "engine_failed"}
    ChatSession.objects.filter(pk=card_session.pk).update(state="failed", error=error)
    client, _ = signed_in(*VIEWS)
    told = io.StringIO()

    for arguments in (["list", "--json"], ["show", card_session.pk], ["show", "--json", card_session.pk]):
        call_command("sessions", *arguments, stdout=told)
    pages = [client.get("/admin/sessions_app/chatsession/"), client.get(pages_of(card_session)[0])]

    assert "engine_failed" in told.getvalue() and CARD["nama"] not in told.getvalue()
    for page in pages:
        assert "engine_failed" in page.text and CARD["nama"] not in page.text


@pytest.mark.django_db(transaction=True)
def test_a_chat_of_a_logged_in_person_is_served_as_before() -> None:
    session = completed("A plate.", caller=caller_of_user(User.objects.create_user("somebody")))

    assert Client().get(f"/v1/sessions/{session.pk}/events").status_code == 200
