"""Sessions of readings are encrypted in the database, and every reader sees them as before. Chats are stored plain."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, models

from sessions_app import transcript
from sessions_app.answer import read_answer
from sessions_app.encryption import sealed
from sessions_app.encryption.keyring import DataKeyMissing, new_item
from sessions_app.errors import Unavailable
from sessions_app.models import ChatSession, Chunk, SessionMedia
from sessions_app.store import appending, opening, transitions
from sessions_app.store.appending import Append, Closing, Piece
from sessions_app.store.opening import NewMedia

pytestmark = pytest.mark.django_db

SECRET = "3171990101900001"
PICTURE = b"\xff\xd8 a picture " + os.urandom(40)
REQUEST = {"version": 1, "messages": [{"role": "user", "content": f"Is it {SECRET}?"}], "sampling": {"max_tokens": 7}}
PIECES = [
    Piece({"type": "reasoning", "text": f"It says {SECRET}."}, [11, 12]),
    Piece({"type": "text", "text": SECRET, "choice": 1}, [13]),
]


def opened(origin: str = "ocr") -> ChatSession:
    media = [NewMedia("image", "image/jpeg", "ab" * 32, PICTURE)]
    session, _ = opening.open_session(
        request=REQUEST, request_digest="", model="tiny", origin=origin, media=media, needs_listener=False
    )
    return session


def run(session: ChatSession, *, closing: Closing | None = None, pieces: list[Piece] = PIECES) -> ChatSession:
    """Claim it and append to it, as its worker does."""
    claimed = transitions.claim(session.pk, worker="test")
    assert claimed is not None
    is_sealed = claimed.origin == "ocr"
    for item in (
        Append(session.pk, claimed.attempt, claimed.next_index, pieces, is_sealed=is_sealed),
        Append(session.pk, claimed.attempt, claimed.next_index + len(pieces), closing=closing, is_sealed=is_sealed),
    ):
        assert not appending.append([item])
    return claimed


def stored(model: type[models.Model], **where: Any) -> str:
    """Every column of the rows, as a dump of the database has them."""
    table = model._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table}")  # noqa: S608  (a table of ours)
        return " ".join(
            bytes(cell).decode("latin-1") if isinstance(cell, bytes | memoryview) else str(cell)
            for row in cursor.fetchall()
            for cell in row
        )


def everything() -> str:
    return " ".join(stored(model) for model in (ChatSession, Chunk, SessionMedia))


@pytest.fixture(autouse=True)
def quiet(sent, told):
    """Nothing is sent to workers."""


def test_a_private_session_is_stored_without_a_legible_word_and_read_in_full():
    session = opened()
    claimed = run(session, closing=Closing(reason="stop", prompt_tokens=5, completion_tokens=3))

    assert SECRET not in everything()
    assert PICTURE.decode("latin-1") not in everything()
    assert "ab" * 32 not in everything()
    assert session.request == claimed.request == REQUEST
    assert [chunk.delta for chunk in Chunk.objects.after(session.pk, 0)[:2]] == [piece.delta for piece in PIECES]
    assert Chunk.objects.token_ids_of(session.pk) == [11, 12, 13]
    assert Chunk.objects.token_ids_by_choice(session.pk) == {0: [11, 12], 1: [13]}
    assert session.media.get().data == PICTURE
    answer = read_answer(session.pk)
    assert (answer.choice(1).text, answer.first.reasoning) == (SECRET, f"It says {SECRET}.")
    assert SECRET in str(transcript.read_question(ChatSession.objects.get().request, ()))


def test_a_chat_is_stored_as_it_is():
    run(opened("chat"), closing=Closing())

    assert everything().count(SECRET) == 3
    assert "sealed" not in everything()
    assert "ab" * 32 in everything()


def test_the_listeners_get_private_deltas_as_they_were_appended(told, django_capture_on_commit_callbacks):
    session = opened()
    with django_capture_on_commit_callbacks(execute=True):
        run(session, closing=Closing())

    assert [chunk.delta for wakeup in told for chunk in wakeup.chunks][:2] == [piece.delta for piece in PIECES]
    assert [delta for _, delta in Chunk.objects.after(session.pk, 0).values_list("index", "delta")][:2] == [
        piece.delta for piece in PIECES
    ]


def test_what_queries_need_stays_legible():
    session = opened()
    run(session, closing=Closing())

    assert set(Chunk.objects.filter(session=session).values_list("delta__type", flat=True)) >= {"text", "reasoning"}
    assert ChatSession.objects.filter(request__sampling__max_tokens=7).exists()
    lengths = "jsonb_array_length" if connection.vendor == "postgresql" else "json_array_length"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT SUM({lengths}(token_ids)) FROM sessions_app_chunk")  # noqa: S608  (a constant)
        assert cursor.fetchone() == (3,)


def test_the_error_of_a_private_session_is_encrypted_but_for_its_code():
    session = opened()
    error = Unavailable(f"It was {SECRET}.")
    run(session, closing=Closing.failed(error))

    session.refresh_from_db()
    assert session.error == error.as_dict()
    assert read_answer(session.pk).error == error.as_dict()
    assert SECRET not in everything()
    assert '"code": "unavailable"' in stored(ChatSession)


def test_a_session_that_no_worker_holds_is_closed_as_its_origin_needs():
    session = opened()
    transitions.fail(session.pk, Unavailable(f"It was {SECRET}."))

    session.refresh_from_db()
    assert session.error["message"] == f"It was {SECRET}."
    assert SECRET not in everything()


def test_rows_of_the_last_release_are_read_as_they_are():
    session = opened()
    ChatSession.objects.filter(pk=session.pk).update(request=models.Value(REQUEST, models.JSONField()))
    Chunk.objects.create(session=session, index=1, delta=PIECES[0].delta, token_ids=[11, 12])

    assert ChatSession.objects.get().request == REQUEST
    assert Chunk.objects.token_ids_of(session.pk) == [11, 12]


class TestLostKey:
    """The key that the session was encrypted with is not in ``DATA_KEYS`` any more."""

    @pytest.fixture
    def session(self, monkeypatch) -> ChatSession:
        session = opened()
        run(session)
        monkeypatch.setattr(settings, "DATA_KEYS", [new_item("other")])
        return ChatSession.objects.get()

    def test_lists_show_its_figures(self, session):
        assert session.request == {"sampling": {"max_tokens": 7}}
        assert isinstance(session.request, sealed.Unreadable)
        assert sum(len(ids) for ids in Chunk.objects.values_list("token_ids", flat=True)) == 3

    def test_no_worker_continues_it_from_tokens_that_it_cannot_read(self, session):
        with pytest.raises(DataKeyMissing):
            Chunk.objects.token_ids_by_choice(session.pk)

    def test_its_answer_is_refused_instead_of_read_with_a_gap(self, session):
        with pytest.raises(DataKeyMissing):
            read_answer(session.pk)

    def test_it_can_be_cancelled(self, session):
        ChatSession.objects.update(lease_expires_at=session.created_at)

        assert transitions.request_cancel(session.pk).state == ChatSession.State.CANCELLED


def test_without_any_key_no_private_session_is_opened_and_chats_are(monkeypatch):
    without_keys(monkeypatch)

    with pytest.raises(DataKeyMissing):
        opened()

    assert opened("chat").pk
    assert ChatSession.objects.count() == 1


def test_a_session_can_be_failed_without_any_key(monkeypatch):
    session = opened()
    without_keys(monkeypatch)

    transitions.fail(session.pk, Unavailable(f"It was {SECRET}."))

    session.refresh_from_db()
    assert session.error["code"] == "data_key_missing"
    assert SECRET not in everything()


def without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "DATA_KEYS", [])
    monkeypatch.setattr("sessions_app.encryption.keyring.key_file", lambda: None)


@pytest.mark.parametrize(
    "value",
    [
        {"type": "text", "text": SECRET, "choice": 2},
        {"type": "text"},
        {},
        [],
        [1, 2, 3],
        [{"code": "a", "doubted": [SECRET]}, {"code": "b"}],
        None,
        {"half": "\ud800", "number": 1.5},
    ],
)
def test_any_json_value_comes_back_from_its_sealed_form(value):
    form = sealed.seal_json(value, "t.c", keep=("type", "choice", "code"))

    assert sealed.open_json(json.loads(json.dumps(form)), "t.c") == value
    assert SECRET not in json.dumps(form)
    assert len(form or ()) == len(value or ()) or isinstance(value, dict)


def test_a_value_that_was_moved_to_another_column_is_not_read(caplog):
    form = sealed.seal_text(SECRET, "table.one")

    assert isinstance(sealed.open_text(form, "table.two"), sealed.UnreadableText)
    assert "table.two cannot be decrypted" in caplog.text


def test_text_that_only_looks_sealed_is_read_as_it_is():
    for text in ("sealed:", "sealed:k1:", "sealed:k1: no base64", "sealed"):
        assert sealed.open_text(text, "t.c") == text
