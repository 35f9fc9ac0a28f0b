"""Exporting sessions as JSON from the admin."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.admin.models import LogEntry
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from sessions_app.admin import exporting
from sessions_app.models import ChatSession
from sessions_app.store import sweeper
from tests.db.session_states import claimed, completed, failed, open_session, png, say, text
from tests.db.signing_in import signed_in

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/sessions_app/chatsession/"


@pytest.fixture
def operator() -> Client:
    return signed_in("view_chatsession", "export_chatsession")


def post(client: Client, *sessions: ChatSession) -> Any:
    return client.post(LIST, {"action": "export_selected", "_selected_action": [session.pk for session in sessions]})


def pieces_of(response: Any) -> list[bytes]:
    async def collected() -> list[bytes]:
        try:
            return [piece async for piece in response.streaming_content]
        finally:
            await sync_to_async(connections.close_all)()

    return asyncio.run(collected())


def exported(client: Client, *sessions: ChatSession) -> dict[str, Any]:
    response = post(client, *sessions)
    assert response["Content-Type"] == "application/json"
    assert response["Content-Disposition"].startswith('attachment; filename="sessions-')
    assert "no-store" in response["Cache-Control"]
    return {session["id"]: session for session in json.loads(b"".join(pieces_of(response)))}


def test_a_session_is_exported_with_its_request_its_log_and_its_history(operator: Client) -> None:
    session = completed("A blue plate.", text="What is on the table?", media=[png()])
    found = exported(operator, session)[session.pk]
    assert found["state"] == "completed"
    assert found["request"] == session.request
    assert [chunk["delta"]["type"] for chunk in found["chunks"]] == [
        *("start", "reasoning", "text", "finish", "usage", "end"),
    ]
    assert found["chunks"][2]["delta"]["text"] == "A blue plate."
    assert found["chunks"][2]["token_ids"] == [7]
    assert [event["kind"] for event in found["events"]] == ["claimed"]
    assert [(media["kind"], media["size"]) for media in found["media"]] == [("image", session.media.get().size)]


def test_several_are_one_document_and_the_export_is_in_the_history_of_each(operator: Client) -> None:
    sessions = [completed(), failed("It broke."), open_session()]
    found = exported(operator, *sessions)
    assert set(found) == {session.pk for session in sessions}
    assert found[sessions[1].pk]["error"]["message"] == "It broke."
    entries = LogEntry.objects.filter(user__username="user-view_chatsession-export_chatsession")
    assert {(entry.object_id, entry.get_change_message()) for entry in entries} == {
        (session.pk, "Exported.") for session in sessions
    }


def test_what_a_card_says_is_exported_to_those_with_the_right_only(operator: Client) -> None:
    card, chat = completed("NIK 3171234567890123", origin="ocr", media=[png()]), completed()
    found = exported(operator, card, chat)
    assert found[card.pk]["withheld"] is True
    assert {"request", "chunks", "media", "error"}.isdisjoint(found[card.pk])
    assert "3171234567890123" not in json.dumps(found)
    assert "withheld" not in found[chat.pk]
    reviewer = signed_in("view_chatsession", "export_chatsession", "review_ktp")
    assert "3171234567890123" in json.dumps(exported(reviewer, card))


def test_exporting_takes_the_permission() -> None:
    viewer = signed_in("view_chatsession")
    response = post(viewer, completed())
    assert not response.streaming
    assert "export_selected" not in viewer.get(LIST).text
    assert not LogEntry.objects.exists()


def test_a_long_log_is_streamed_a_page_at_a_time(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "PAGE_CHUNKS", 10)
    session = claimed(open_session())
    say(session, *[text("word ")] * 95)
    pieces = pieces_of(post(operator, session))
    assert max(piece.count(b'"delta"') for piece in pieces) == 10
    [found] = json.loads(b"".join(pieces))
    assert [chunk["index"] for chunk in found["chunks"]] == list(range(96))


def test_nothing_is_read_before_the_document_is_asked_for(operator: Client) -> None:
    session = completed()
    with CaptureQueriesContext(connection) as queries:
        response = post(operator, session)
    # The list looks at the type of a chunk; no chunk is read.
    assert not [query for query in queries if '"sessions_app_chunk"."token_ids"' in query["sql"]]
    pieces_of(response)


def test_expired_and_deleted_sessions_leave_a_whole_document(operator: Client) -> None:
    expired, deleted = completed(), completed()
    sweeper.expire(expired.pk)
    response = post(operator, expired, deleted)
    deleted.delete()
    [found] = json.loads(b"".join(pieces_of(response)))
    assert (found["id"], found["chunks"], found["request"]) == (expired.pk, [], {})
    alone = completed()
    response = post(operator, alone)
    alone.delete()
    assert json.loads(b"".join(pieces_of(response))) == []


def test_more_than_one_document_holds_are_refused(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "MAX_SESSIONS", 1)
    sessions = [completed(), completed()]
    response = post(operator, *sessions)
    assert not response.streaming
    assert "Select 1 sessions at most." in operator.get(LIST).text
