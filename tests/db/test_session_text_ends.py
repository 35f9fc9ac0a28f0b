"""The text of a reading's session ends with the reading: stored and removed in one transaction, whoever does it."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Permission, User
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from ocr import extraction as extractions
from ocr.extraction import complete_extraction, complete_finished
from ocr.models import KtpExtraction
from ocr.progress import END
from ocr.reading_sessions import KtpSession
from ocr.submissions import INTERRUPTED_SECONDS
from sessions_app.callers import caller_with_key
from sessions_app.db import in_db
from sessions_app.hub import hub
from sessions_app.models import ChatSession, Chunk, Presence, SessionMedia
from sessions_app.store import sweeper
from sessions_app.store.appending import Append, Piece, append
from sessions_app.views import stream_session
from tests.db.ktp_cards import CARD_JSON, answer, read_extraction, reading_extraction
from tests.db.session_states import completed
from tests.db.threads import at_once, times
from tests.ktp_card import CARD
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

ERROR = {"message": f"Cannot read {CARD['nama']}.", "type": "server_error", "param": None, "code": "engine_failed"}


def finished(user: User | None = None, **how: Any) -> tuple[KtpExtraction, ChatSession]:
    """A card whose session has ended, before anybody has stored the reading."""
    extraction = reading_extraction(user)
    session = extraction.session
    assert session is not None
    session.media.create(position=0, kind="image", content_type="image/png", sha256="0" * 64, size=1, data=b"x")
    answer(session.pk, CARD_JSON, **how)
    session.refresh_from_db()
    return extraction, session


def has_text(session: ChatSession) -> bool:
    session.refresh_from_db()
    rows = [related.objects.filter(session=session).exists() for related in (Chunk, SessionMedia, Presence)]
    if session.expired_at is None:
        assert rows[:2] == [True, True]
    return any(rows) or session.request != {} or bool((session.error or {}).get("message"))


def test_the_text_goes_when_the_reading_is_stored_and_the_figures_stay() -> None:
    extraction, session = finished()
    assert has_text(session)

    extraction = complete_extraction(extraction.pk)

    assert (extraction.state, extraction.nik) == ("read", CARD["nik"])
    assert not has_text(session)
    assert (session.state, session.finish_reason) == ("completed", "stop")
    assert (session.prompt_tokens, session.completion_tokens) == (9, 2)
    assert session.expired_at is not None and session.started_at is not None
    assert list(session.events.values_list("kind", flat=True)) == ["claimed"]


def test_of_a_failed_session_the_code_of_its_error_stays() -> None:
    extraction, session = finished(error=ERROR)

    assert complete_extraction(extraction.pk).state == "failed"

    assert not has_text(session)
    assert session.error == {"message": "", "type": "server_error", "param": None, "code": "engine_failed"}


def test_the_error_of_a_chat_keeps_its_text() -> None:
    session = completed()
    ChatSession.objects.filter(pk=session.pk).update(error=ERROR)
    assert sweeper.expire(session.pk)
    session.refresh_from_db()
    assert session.error == ERROR


def test_a_removal_that_breaks_off_leaves_both_for_the_next_try(monkeypatch: pytest.MonkeyPatch) -> None:
    extraction, session = finished()

    def broken(*args: object, **kwargs: object) -> None:
        raise OperationalError("away")

    with monkeypatch.context() as breaking:
        breaking.setattr(SessionMedia.objects, "filter", broken)
        with pytest.raises(OperationalError):
            complete_extraction(extraction.pk)
    extraction.refresh_from_db()
    assert extraction.state == "reading" and not extraction.history.exists()
    assert has_text(session)

    assert complete_finished() == 1
    extraction.refresh_from_db()
    assert (extraction.state, extraction.nik) == ("read", CARD["nik"])
    assert not has_text(session)


def test_of_many_who_complete_it_at_once_one_stores_the_reading_and_none_stores_an_empty_one() -> None:
    extraction, session = finished()

    readings = at_once(*times(lambda: complete_extraction(extraction.pk), 6))

    assert {reading.state for reading in readings} == {"read"}
    assert {reading.nik for reading in readings} == {CARD["nik"]}
    assert extraction.history.count() == 1
    assert not has_text(session)


def test_a_worker_that_comes_late_writes_nothing_into_a_removed_text() -> None:
    extraction, session = finished()
    complete_extraction(extraction.pk)

    late = Append(session.pk, session.attempt, session.next_index, [Piece({"type": "text", "text": CARD["nama"]}, [7])])

    assert append([late]) == {session.pk}
    assert not has_text(session)


# --- What was left ---


def test_the_sweep_removes_what_an_older_version_has_left() -> None:
    extraction, session = finished()
    KtpExtraction.objects.filter(pk=extraction.pk).update(state="read", completed_at=timezone.now())

    sweeper.sweep()

    assert not has_text(session)


def test_the_sweep_removes_the_text_of_a_session_that_no_card_has() -> None:
    extraction, session = finished()
    KtpExtraction.objects.filter(pk=extraction.pk).update(session=None)
    KtpSession.objects.create(session_id=session.pk, extraction=extraction)

    sweeper.sweep()
    # It may be a session that its web process has not yet attached to its card.
    assert has_text(session)
    before = timezone.now() - datetime.timedelta(seconds=INTERRUPTED_SECONDS + 1)
    ChatSession.objects.filter(pk=session.pk).update(created_at=before)
    sweeper.sweep()
    assert not has_text(session)


def test_the_sweep_leaves_the_text_of_a_chat_and_of_a_card_that_is_being_read() -> None:
    chat, running = completed(), reading_extraction().session
    assert running is not None
    before = timezone.now() - datetime.timedelta(seconds=INTERRUPTED_SECONDS + 1)
    ChatSession.objects.update(created_at=before)

    sweeper.sweep()

    assert Chunk.objects.filter(session=chat).exists() and Chunk.objects.filter(session=running).exists()


# --- Who still listens ---


def test_a_client_that_comes_back_is_told_that_the_text_is_gone(settings: Any) -> None:
    settings.API_KEYS = ["the-key-of-the-server-for-cards"]
    extraction, session = finished()
    ChatSession.objects.filter(pk=session.pk).update(caller=caller_with_key(settings.API_KEYS[0]))
    complete_extraction(extraction.pk)
    headers = {"Authorization": f"Bearer {settings.API_KEYS[0]}", "Last-Event-ID": f"{session.pk}:1"}

    response = Client().get(f"/v1/sessions/{session.pk}/events", headers=headers)

    assert response.status_code == 410
    assert response.json()["error"]["code"] == "session_expired"
    assert "was removed with its reading" in response.json()["error"]["message"]


def stream_of(session: ChatSession, after: int) -> Any:
    return stream_session(
        session, after=after, render=lambda chunk: "chunk", unreadable="bad", removed="removed", caller=""
    )


def test_a_reader_of_the_stream_gets_a_last_event_when_the_text_goes(settings: Any) -> None:
    settings.HUB_POLL_SECONDS = 0.05
    extraction, session = finished()
    # As the reader knew it, before the last chunks, whose wake-up it never gets.
    ChatSession.objects.filter(pk=session.pk).update(state="running", finished_at=None, next_index=2)
    session.refresh_from_db()
    Chunk.objects.filter(session=session, index__gte=2).delete()

    @async_to_sync
    async def main() -> list[bytes]:
        events = aiter(stream_of(session, -1).streaming_content)
        received = [await anext(events)]
        await until(lambda: hub().open_streams == 1)
        columns = {"state": "completed", "finished_at": timezone.now(), "next_index": 5}
        await in_db(ChatSession.objects.filter(pk=session.pk).update, **columns)
        await in_db(complete_extraction, extraction.pk)
        received += [event async for event in events]
        assert hub().open_streams == 0
        return received

    *_, last = main()
    assert last.splitlines()[:2] == [f"id: {session.pk}:2".encode(), b"data: removed"]


def test_a_clerk_who_follows_a_reading_is_told_that_it_has_ended() -> None:
    clerk = User.objects.create_user("clerk")
    clerk.user_permissions.add(Permission.objects.get(codename="add_ktpextraction"))
    client = Client()
    client.force_login(clerk)
    extraction, session = finished(clerk)
    complete_extraction(extraction.pk)

    again = client.get(f"/ocr/{extraction.pk}/events/", headers={"Last-Event-ID": f"{session.pk}:1"})
    rows = client.get("/ocr/progress/", {"reading": str(extraction.pk)}, headers={"Accept": "application/json"})

    # An EventSource does not come back after a 204, and the page asks for the row, which has the reading.
    assert again.status_code == 204
    assert CARD["nama"] not in END and "row" in rows.json()[str(extraction.pk)]


def test_a_caller_who_waits_for_a_card_gets_the_reading_that_the_sweeper_stored_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from django.core.files.base import ContentFile

    from ocr.api import waiting
    from sessions_app.errors import SessionExpired
    from tests.db.ktp_cards import specimen

    async def wait(session: ChatSession, *, timeout_seconds: float) -> None:
        await in_db(answer, session.pk, CARD_JSON)
        await in_db(complete_finished)
        raise SessionExpired(session.pk)

    monkeypatch.setattr(waiting, "wait_for_answer", wait)

    response = Client().post("/ktp-ocr/", {"image": ContentFile(specimen(), name="card.jpg")})

    assert response.status_code == 200
    assert (response.json()["nik"], response.json()["meta"]["state"]) == (CARD["nik"], "read")


def test_the_page_of_such_a_session_says_where_its_reading_is() -> None:
    extraction = read_extraction()
    page = f"/admin/sessions_app/chatsession/{str(extraction.session_id).replace('_', '_5F')}/change/"
    reviewer, operator = (User.objects.create_user(name, is_staff=True) for name in ("reviewer", "operator"))
    for user, codenames in ((reviewer, ["view_chatsession", "review_ktp"]), (operator, ["view_chatsession"])):
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))

    def seen_by(user: User) -> str:
        client = Client()
        client.force_login(user)
        return client.get(page).text

    link = f"/admin/ocr/ktpextraction/{extraction.pk}/change/"
    assert "were removed with its reading" in seen_by(reviewer) and link in seen_by(reviewer)
    assert "about a person" in seen_by(operator) and link not in seen_by(operator)


def test_nothing_listens_to_sessions_of_cards_that_have_no_text(settings: Any) -> None:
    """Without this rule a replay of an empty log would wait for ever."""
    settings.HUB_POLL_SECONDS = 0.05
    extraction, session = finished()
    complete_extraction(extraction.pk)
    assert extractions.complete_finished() == 0

    @async_to_sync
    async def main() -> list[bytes]:
        async with asyncio.timeout(30):
            return [event async for event in stream_of(session, -1).streaming_content]

    assert b"data: removed" in b"".join(main())
