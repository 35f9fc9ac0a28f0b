"""Opening a session, as a specification: what is there then, who else has the id, and what is refused."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from django.conf import settings
from django.db import IntegrityError, connection, transaction

from config.celery_app import app as celery_app
from sessions_app.call_batching import CallBatcher
from sessions_app.errors import ApiError, CallerQueueFull, QueueFull, SessionConflict
from sessions_app.models import ChatSession, Chunk, Presence, SessionMedia
from sessions_app.store import finding, opening
from sessions_app.store.opening import NewSession
from tests.db.session_states import (
    claimed,
    log_of,
    open_session,
    png,
)
from tests.db.threads import at_once, times

pytestmark = pytest.mark.django_db(transaction=True)

State = ChatSession.State


def test_opening_writes_the_session_its_first_chunk_its_media_and_a_listener(sent: list[str]) -> None:
    session = open_session("Apa ini?", media=[png(), png("image/x-png")], request_id="r1", session_id="mine")
    session.refresh_from_db()
    assert (session.pk, session.state, session.attempt, session.next_index) == ("mine", State.QUEUED, 0, 1)
    assert session.request["messages"][0]["content"][0]["text"] == "Apa ini?"
    assert (session.request_id, session.model, session.origin) == ("r1", "tiny", "chat")
    assert log_of(session) == [(0, "start")]
    assert list(session.media.values_list("position", "content_type")) == [(0, "image/png"), (1, "image/x-png")]
    stored = session.media.first()
    assert stored is not None
    assert (bytes(stored.data), stored.size) == (png().data, len(png().data))
    assert session.presence.seen_at == session.created_at == session.enqueued_at
    assert sent == ["mine"]


def test_ids_of_ours_cannot_be_guessed(sent: list[str]) -> None:
    ids = {open_session().pk for _ in range(20)}
    assert len(ids) == 20
    assert all(len(id_) > 30 for id_ in ids)


def test_opening_again_with_the_same_request_gives_the_same_session(sent: list[str]) -> None:
    first, is_new = opening.open_session(session_id="a", request={"x": 1}, request_digest="d", model="tiny")
    again, is_new_again = opening.open_session(session_id="a", request={"x": 2}, request_digest="d", model="tiny")
    assert (is_new, is_new_again) == (True, False)
    assert again.pk == first.pk
    assert again.request == {"x": 1}
    assert log_of(again) == [(0, "start")]
    assert sent == ["a"]


def test_opening_with_another_request_is_a_conflict_and_changes_nothing(sent: list[str]) -> None:
    session = open_session(session_id="a")
    with pytest.raises(SessionConflict):
        open_session(session_id="a", request_digest="other", media=[png()])
    assert log_of(session) == [(0, "start")]
    assert not SessionMedia.objects.exists()
    assert sent == ["a"]


def test_a_session_is_sent_to_the_workers_only_when_it_is_committed(sent: list[str]) -> None:
    with transaction.atomic():
        open_session(session_id="a")
        assert sent == []
    assert sent == ["a"]


def test_a_session_that_is_rolled_back_is_not_sent_and_leaves_nothing(sent: list[str]) -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        open_session(session_id="a", media=[png()])
        raise RuntimeError
    assert sent == []
    assert not (ChatSession.objects.exists() or Chunk.objects.exists() or Presence.objects.exists())


def test_media_that_cannot_be_stored_leave_no_session_behind(sent: list[str]) -> None:
    broken = png()
    object.__setattr__(broken, "sha256", None)
    with pytest.raises(IntegrityError):
        open_session(session_id="a", media=[png(), broken])
    assert not (ChatSession.objects.exists() or SessionMedia.objects.exists() or Chunk.objects.exists())
    assert sent == []


def test_a_full_queue_takes_no_more_but_knows_its_own(sent: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MAX_QUEUED_SESSIONS", 2)
    open_session(session_id="a")
    running = claimed(open_session(session_id="b"))
    open_session(session_id="c")
    with pytest.raises(QueueFull):
        open_session(session_id="d")
    assert sorted(ChatSession.objects.values_list("pk", flat=True)) == ["a", "b", "c"]
    assert open_session(session_id="a").pk == "a"
    assert open_session(session_id="b").pk == running.pk


def test_of_many_that_open_one_id_at_once_one_is_new(sent: list[str]) -> None:
    def one() -> bool:
        return opening.open_session(session_id="a", request={}, request_digest="d", model="tiny")[1]

    assert sorted(at_once(*times(one, 6))) == [False] * 5 + [True]
    assert sent == ["a"]
    assert Chunk.objects.count() == 1


def test_a_broker_that_is_down_does_not_undo_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*args: object, **kwargs: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(celery_app, "send_task", down)
    assert open_session(session_id="a").state == State.QUEUED


# --- Many at once ---


def asked(session_id: str | None = None, *, digest: str = "d", caller: str = "", **columns: Any) -> NewSession:
    return NewSession(
        session_id=session_id, request={"x": 1}, request_digest=digest, model="tiny", caller=caller, **columns
    )


def ids_of(results: list[opening.Opened | ApiError]) -> list[str | type[ApiError]]:
    return [type(result) if isinstance(result, ApiError) else result[0].pk for result in results]


def test_many_are_opened_together_each_with_its_rows_and_one_message_is_sent(sent: list[str]) -> None:
    results = opening.open_sessions([asked("a", media=[png()]), asked("b", needs_listener=False), asked("c")])
    assert ids_of(results) == ["a", "b", "c"]
    assert all(is_new for result in results if not isinstance(result, ApiError) for is_new in [result[1]])
    for session in ChatSession.objects.all():
        assert log_of(session) == [(0, "start")]
        assert session.request == {"x": 1}
    assert list(SessionMedia.objects.values_list("session", flat=True)) == ["a"]
    assert sorted(Presence.objects.values_list("session", flat=True)) == ["a", "c"]
    assert sent == ["a"]


def test_the_statements_do_not_grow_with_the_sessions(sent: list[str], django_assert_max_num_queries: Any) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no INSERT inside a query")
    with django_assert_max_num_queries(2):
        opening.open_sessions([asked() for _ in range(20)])
    assert ChatSession.objects.count() == 20


def test_the_refusal_of_one_leaves_the_others(sent: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    open_session(session_id="taken", request_digest="other")
    monkeypatch.setattr(settings, "MAX_QUEUED_SESSIONS", 3)
    results = opening.open_sessions([asked("a"), asked("taken"), asked("b"), asked("c")])
    assert ids_of(results) == ["a", SessionConflict, "b", QueueFull]
    assert ChatSession.objects.count() == 3


def test_the_share_of_a_caller_counts_those_that_come_with_it(sent: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MAX_QUEUED_SESSIONS_PER_CALLER", 2)
    results = opening.open_sessions([asked(caller=caller) for caller in ("k1", "k1", "k1", "k2")])
    assert [isinstance(result, CallerQueueFull) for result in results] == [False, False, True, False]


def test_a_violation_opens_none_of_many(sent: list[str]) -> None:
    with pytest.raises(IntegrityError):
        opening.open_sessions([asked(), asked("a"), asked("a")])
    assert not ChatSession.objects.exists()
    assert sent == []


def opened_together(*items: NewSession) -> list[Any]:
    """The results and errors of requests that come at the same time."""

    async def open_all() -> list[Any]:
        ask = CallBatcher[NewSession, opening.Opened](opening.open_sessions, size=lambda item: item.media_bytes)
        return await asyncio.gather(*map(ask, items), return_exceptions=True)

    return asyncio.run(open_all())


def test_one_id_twice_among_many_is_opened_once(sent: list[str]) -> None:
    first, other, again, conflict = opened_together(asked("a"), asked("b"), asked("a"), asked("b", digest="other"))
    assert [(session.pk, is_new) for session, is_new in (first, other, again)] == [
        ("a", True),
        ("b", True),
        ("a", False),
    ]
    assert isinstance(conflict, SessionConflict)
    assert ChatSession.objects.count() == Chunk.objects.count() == 2
    assert set(sent) == {"a", "b"}


def test_a_row_that_the_database_refuses_leaves_the_others_opened_once(sent: list[str]) -> None:
    results = opened_together(asked(), asked("bad", request_id=None), asked())
    assert isinstance(results[1], IntegrityError)
    assert {result[0].pk for number, result in enumerate(results) if number != 1} == {
        session.pk for session in ChatSession.objects.all()
    }
    assert ChatSession.objects.count() == 2


def test_an_id_that_another_request_takes_meanwhile_is_returned_as_a_conflict(
    sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_same, looks = finding.find_same, Counter[str]()

    def find_nothing_at_first(session_id: str, request_digest: str) -> ChatSession | None:
        looks[session_id] += 1
        return find_same(session_id, request_digest) if looks[session_id] > 1 else None

    monkeypatch.setattr(finding, "find_same", find_nothing_at_first)
    open_session(session_id="taken", request_digest="other")
    assert ids_of(opening.open_sessions([asked("taken")])) == [SessionConflict]


def test_sessions_of_a_call_have_the_order_of_their_requests(sent: list[str]) -> None:
    opening.open_sessions([asked(str(number)) for number in range(5)])
    assert list(ChatSession.objects.order_by("created_at").values_list("pk", flat=True)) == list("01234")
    assert len(set(ChatSession.objects.values_list("created_at"))) == 5


def test_private_sessions_are_sealed_among_others(sent: list[str]) -> None:
    results = opening.open_sessions([asked("a"), asked("card", origin="ocr", media=[png()], needs_listener=False)])
    assert ids_of(results) == ["a", "card"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, request FROM sessions_app_chatsession")
        stored = {session_id: str(request) for session_id, request in cursor.fetchall()}
    assert '"x"' in stored["a"] or "'x'" in stored["a"]
    assert '"x"' not in stored["card"] and "'x'" not in stored["card"]
    assert ChatSession.objects.get(pk="card").request == {"x": 1}
