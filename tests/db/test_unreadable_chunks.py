"""Rows that no writer of today makes: whoever meets one is told so once, and nothing is tried for ever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any, NamedTuple, TypeVar

import pytest
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.db import connection, connections
from django.test import AsyncClient, Client
from django.urls import reverse

from config.asgi import application
from inference.api.chat import _whole
from inference.errors import ApiError
from inference.generations import wait_for_answer
from sessions_app.db import in_db
from sessions_app.models import ChatSession, Chunk
from sessions_app.store.appending import Closing
from tests.db.session_states import claimed, completed, open_session, say, text

pytestmark = pytest.mark.django_db(transaction=True)

T = TypeVar("T")
DEADLINE_SECONDS = 20
#: the last event of a completed session with one thought and one text
LAST = 5
needs_sqlite = pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL does not store it")
BAD_DELTAS = [
    pytest.param({"type": "text", "text": "a\ud83d"}, marks=needs_sqlite, id="half a character"),
    pytest.param({"type": "reasoning", "text": "\ude00"}, marks=needs_sqlite, id="half a character in thoughts"),
    pytest.param(
        {"type": "text", "text": "a", "logprobs": [{"token": "\ud83d", "logprob": 0, "bytes": None, "top": []}]},
        marks=needs_sqlite,
        id="half a character in a token",
    ),
    pytest.param({"type": "text"}, id="no text"),
    pytest.param({"type": "text", "text": "a", "logprobs": [5]}, id="odd logprobs"),
    pytest.param({}, id="no type"),
    pytest.param(5, id="a number"),
    pytest.param(["text"], id="a list"),
]


class Event(NamedTuple):
    id: str
    data: str

    @property
    def error(self) -> dict[str, Any]:
        return dict(json.loads(self.data)["error"])


def run(work: Awaitable[T]) -> T:
    async def within_deadline() -> T:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                return await work
        finally:
            await in_db(connections.close_all)

    return asyncio.run(within_deadline())


async def read(session: ChatSession, after: str = "") -> list[Event] | int:
    """The events of the whole response, or its status when there are none."""
    headers = {"Last-Event-ID": after} if after else {}
    response: Any = await AsyncClient().get(f"/v1/sessions/{session.pk}/events", headers=headers)
    if not response.streaming:
        return response.status_code
    body = b"".join([part async for part in response.streaming_content]).decode()
    events = []
    for block in body.split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        events.append(Event(fields["id"], fields["data"]))
    return events


def spoilt(delta: object, index: int = 1) -> ChatSession:
    """A completed session, whose chunk at ``index`` is overwritten."""
    session = completed()
    spoil(session, delta, index)
    session.refresh_from_db()
    assert session.next_index == LAST + 1
    return session


def spoil(session: ChatSession, delta: object, index: int) -> None:
    assert Chunk.objects.filter(session=session, index=index).update(delta=delta) == 1


@pytest.mark.parametrize("delta", BAD_DELTAS)
def test_a_replay_says_that_a_chunk_cannot_be_sent_and_ends(delta: object) -> None:
    session = spoilt(delta)
    events = run(read(session))
    assert isinstance(events, list)
    start, error = events
    assert json.loads(start.data)["choices"][0]["delta"]["role"] == "assistant"
    assert (error.error["type"], error.error["code"]) == ("server_error", "answer_unreadable")
    assert "new session_id" in error.error["message"]
    # A browser that comes back is sent nothing more, and stops.
    assert run(read(session, after=error.id)) == 204


@pytest.mark.parametrize("index", [0, 3, 4, LAST])
@pytest.mark.parametrize("delta", [5, {}])
def test_wherever_the_bad_chunk_is_the_stream_ends_there_once(delta: object, index: int) -> None:
    session = spoilt(delta, index)
    events = run(read(session))
    assert isinstance(events, list)
    assert sum("answer_unreadable" in event.data for event in events) == 1
    assert "answer_unreadable" in events[-1].data
    assert events[-1].id == f"{session.pk}:{LAST}"
    assert run(read(session, after=events[-1].id)) == 204


@pytest.mark.parametrize("delta", BAD_DELTAS)
def test_in_a_session_that_still_runs_each_bad_chunk_is_told_of_once(delta: object) -> None:
    session = claimed(open_session())
    say(session, text("a"), text("b"), text("c"))
    spoil(session, delta, 2)

    async def follow() -> tuple[Any, Any]:
        first = await read(session)
        await in_db(say, session, text("d"), closing=Closing())
        return first, await read(session, after=first[-1].id)  # type: ignore[index]

    first, second = run(follow())
    assert [event.id for event in first][:2] == [f"{session.pk}:0", f"{session.pk}:1"]
    assert first[-1].error["code"] == "answer_unreadable"
    assert "answer_unreadable" not in "".join(event.data for event in second)
    assert second[-1].data == "[DONE]"


@pytest.mark.parametrize("delta", BAD_DELTAS)
def test_a_whole_answer_with_such_a_chunk_is_an_error(delta: object) -> None:
    session = spoilt(delta)

    with pytest.raises(ApiError) as refused:
        run(_whole(session))
    assert (refused.value.status, refused.value.code) == (500, "answer_unreadable")
    assert refused.value.headers == {"X-Session-ID": session.pk}


@pytest.mark.parametrize("delta", BAD_DELTAS)
def test_the_live_view_shows_the_rest_and_comes_to_its_end(delta: object) -> None:
    session = spoilt(delta)
    user = User.objects.create_superuser("operator")
    client = Client()
    client.force_login(user)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value

    async def watch() -> list[dict[str, Any]]:
        watcher = WebsocketCommunicator(
            application,
            f"/ws/admin/sessions/{session.pk}/",
            [
                (b"host", b"localhost"),
                (b"origin", b"http://localhost"),
                (b"cookie", f"{settings.SESSION_COOKIE_NAME}={cookie}".encode()),
            ],
        )
        assert (await watcher.connect(timeout=DEADLINE_SECONDS))[0]
        messages: list[dict[str, Any]] = []
        while not (messages and messages[-1].get("final")):
            messages.append(await watcher.receive_json_from(timeout=DEADLINE_SECONDS))
        await watcher.disconnect()
        return messages

    messages = run(watch())
    chunks = [chunk for message in messages for chunk in message.get("chunks", ())]
    assert [chunk["index"] for chunk in chunks] == list(range(LAST + 1))
    assert all(isinstance(chunk["delta"]["type"], str) for chunk in chunks)
    json.dumps(chunks, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize("delta", BAD_DELTAS)
def test_the_pages_of_the_admin_show_it(delta: object) -> None:
    session = spoilt(delta)
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    chunk = Chunk.objects.get(session=session, index=1)
    for url in (
        reverse("admin:sessions_app_chatsession_change", args=[quote(session.pk)]),
        f"{reverse('admin:sessions_app_chunk_changelist')}?session__id__exact={session.pk}",
        reverse("admin:sessions_app_chunk_change", args=[chunk.pk]),
    ):
        response = client.get(url)
        assert response.status_code == 200
        assert response.content.decode()


@needs_sqlite
def test_an_error_with_half_a_character_is_shown_and_sent_without_it() -> None:
    session = completed()
    error = {"message": "no \ud83d", "type": "server_error", "param": None, "code": "c"}
    ChatSession.objects.filter(pk=session.pk).update(state="failed", error=error)
    spoil(session, {"type": "error", "error": error, "status": 500}, LAST)
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    page = client.get(reverse("admin:sessions_app_chatsession_change", args=[quote(session.pk)]))
    assert "no \ufffd" in page.content.decode()
    answer = run(wait_for_answer(session, timeout_seconds=DEADLINE_SECONDS))
    assert answer is not None and answer.error is not None
    assert answer.error["message"] == "no \ufffd"
