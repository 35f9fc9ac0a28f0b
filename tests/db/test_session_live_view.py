from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.models import Session
from django.db import OperationalError, connections
from django.test import Client
from django.utils import timezone

from config.asgi import application
from ocr.extraction import complete_extraction
from sessions_app import watch_permissions
from sessions_app.db import in_db
from sessions_app.hub import hub
from sessions_app.models import ChatSession
from sessions_app.store import sweeper, transitions
from sessions_app.store.appending import Closing
from tests.db.ktp_cards import CARD_JSON, answer, reading_extraction
from tests.db.session_states import claimed, completed, open_session, say, text

pytestmark = pytest.mark.django_db(transaction=True)

#: a deadline, not a wait: how long a message may take on a busy machine
DEADLINE_SECONDS = 20


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def within_deadline() -> None:
        try:
            async with asyncio.timeout(3 * DEADLINE_SECONDS):
                await main()
        finally:
            # Channels' communicator keeps its authentication from doing this, for tests inside a transaction.
            await sync_to_async(connections.close_all)()

    asyncio.run(within_deadline())


def cookie_of(user: User) -> str:
    client = Client()
    client.force_login(user)
    return client.cookies[settings.SESSION_COOKIE_NAME].value


@pytest.fixture
def operator() -> User:
    user = User.objects.create_user("operator", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_chatsession"))
    return user


@pytest.fixture
def cookie(operator: User) -> str:
    return cookie_of(operator)


def socket(
    session_id: str,
    cookie: str = "",
    *,
    query: str = "",
    host: str = "localhost",
    origin: str = "http://localhost",
    more: Sequence[tuple[bytes, bytes]] = (),
) -> WebsocketCommunicator:
    headers = [(b"host", host.encode()), (b"origin", origin.encode()), *more]
    if cookie:
        headers.append((b"cookie", f"{settings.SESSION_COOKIE_NAME}={cookie}".encode()))
    return WebsocketCommunicator(application, f"/ws/admin/sessions/{session_id}/{query}", headers)


async def opened(session_id: str, cookie: str, query: str = "") -> WebsocketCommunicator:
    watcher = socket(session_id, cookie, query=query)
    is_open, _ = await watcher.connect(timeout=DEADLINE_SECONDS)
    assert is_open
    return watcher


async def hear(watcher: WebsocketCommunicator) -> dict[str, Any]:
    return await watcher.receive_json_from(timeout=DEADLINE_SECONDS)


async def hear_chunks(watcher: WebsocketCommunicator, up_to: int) -> list[dict[str, Any]]:
    """The chunks up to this index, however they were cut into messages."""
    chunks: list[dict[str, Any]] = []
    while not chunks or chunks[-1]["index"] < up_to:
        message = await hear(watcher)
        chunks += message.get("chunks", [])
    return chunks


async def hear_close(watcher: WebsocketCommunicator) -> int:
    event = await watcher.receive_output(timeout=DEADLINE_SECONDS)
    assert event["type"] == "websocket.close", event
    return event["code"]


async def refusal(watcher: WebsocketCommunicator) -> int:
    is_open, code = await watcher.connect(timeout=DEADLINE_SECONDS)
    assert not is_open
    return code


def test_chunks_arrive_as_they_are_committed_and_the_end_closes(cookie: str) -> None:
    session = claimed(open_session())

    async def main() -> None:
        watcher = await opened(session.pk, cookie)
        assert await hear(watcher) == {"state": "running"}
        assert await hear(watcher) == {"chunks": [{"index": 0, "delta": {"type": "start"}}]}
        await in_db(say, session, text("A "))
        assert await hear(watcher) == {"chunks": [{"index": 1, "delta": text("A ")}]}
        await in_db(say, session, text("plate"), closing=Closing(reason="stop"))
        chunks = await hear_chunks(watcher, up_to=5)
        assert [chunk["index"] for chunk in chunks] == [2, 3, 4, 5]
        assert [chunk["delta"]["type"] for chunk in chunks] == ["text", "finish", "usage", "end"]
        assert await hear(watcher) == {"state": "completed", "final": True}
        assert await hear_close(watcher) == 1000

    run(main)


def test_only_what_follows_the_cursor_is_sent(cookie: str) -> None:
    session = claimed(open_session())
    say(session, text("A "), text("plate"))

    async def main() -> None:
        watcher = await opened(session.pk, cookie, "?after=1")
        assert await hear(watcher) == {"state": "running"}
        assert [chunk["index"] for chunk in await hear_chunks(watcher, up_to=2)] == [2]
        await watcher.disconnect()

    run(main)


def test_a_queued_session_is_seen_to_be_claimed_before_it_says_anything(cookie: str) -> None:
    session = open_session()

    async def main() -> None:
        watcher = await opened(session.pk, cookie, "?after=0")
        assert await hear(watcher) == {"state": "queued"}
        await in_db(claimed, session)
        assert await hear(watcher) == {"state": "running"}
        await watcher.disconnect()

    run(main)


def test_a_session_cancelled_while_it_is_watched_ends_the_view(cookie: str) -> None:
    session = open_session()

    async def main() -> None:
        watcher = await opened(session.pk, cookie, "?after=0")
        assert await hear(watcher) == {"state": "queued"}
        await in_db(transitions.request_cancel, session.pk)
        assert [chunk["index"] for chunk in await hear_chunks(watcher, up_to=3)] == [1, 2, 3]
        assert await hear(watcher) == {"state": "cancelled", "final": True}
        assert await hear_close(watcher) == 1000

    run(main)


def test_a_finished_session_replays_and_ends(cookie: str) -> None:
    session = completed("A plate.")

    async def main() -> None:
        watcher = await opened(session.pk, cookie)
        chunks = await hear_chunks(watcher, up_to=session.next_index - 1)
        assert [chunk["index"] for chunk in chunks] == list(range(session.next_index))
        assert await hear(watcher) == {"state": "completed", "final": True}
        assert await hear_close(watcher) == 1000

    run(main)


@pytest.mark.parametrize("beyond", [0, 1000])
def test_a_cursor_at_the_end_or_beyond_it_gets_the_final_state_at_once(cookie: str, beyond: int) -> None:
    session = completed()

    async def main() -> None:
        watcher = await opened(session.pk, cookie, f"?after={session.next_index - 1 + beyond}")
        assert await hear(watcher) == {"state": "completed", "final": True}
        assert await hear_close(watcher) == 1000

    run(main)


def test_leaving_ends_the_follower_and_leaves_the_session_alone(cookie: str) -> None:
    session = claimed(open_session())

    async def main() -> None:
        watcher = await opened(session.pk, cookie)
        await hear_chunks(watcher, up_to=0)
        assert hub().open_streams == 1
        await watcher.disconnect(timeout=DEADLINE_SECONDS)
        assert hub().open_streams == 0
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("live view")]

    run(main)
    session.refresh_from_db()
    assert session.state == ChatSession.State.RUNNING
    assert session.cancel_requested_at is None


def test_what_a_page_sends_is_not_read(cookie: str) -> None:
    session = claimed(open_session())

    async def main() -> None:
        watcher = await opened(session.pk, cookie)
        await hear_chunks(watcher, up_to=0)
        await watcher.send_to(text_data="this is no JSON")
        await watcher.send_to(bytes_data=b"\xff")
        await in_db(say, session, text("A "))
        assert [chunk["index"] for chunk in await hear_chunks(watcher, up_to=1)] == [1]
        await watcher.disconnect()

    run(main)


def test_a_session_that_expires_while_it_is_watched_closes_as_gone(cookie: str) -> None:
    session = completed()
    ChatSession.objects.filter(pk=session.pk).update(state="running", finished_at=None)

    async def main() -> None:
        watcher = await opened(session.pk, cookie, f"?after={session.next_index - 1}")
        assert await hear(watcher) == {"state": "running"}
        await in_db(ChatSession.objects.filter(pk=session.pk).delete)
        assert await hear_close(watcher) == 4410

    run(main)


def test_a_watcher_of_a_card_that_is_read_gets_a_clean_end_although_its_text_goes(operator: User) -> None:
    """It is queued when the watch begins. Before the next look at it, it has ended and its text has gone."""
    operator.user_permissions.add(Permission.objects.get(codename="review_ktp"))
    card = reading_extraction()

    def read_and_store() -> None:
        answer(card.session_id, CARD_JSON)
        complete_extraction(card.pk)

    async def main() -> None:
        watcher = await opened(card.session_id or "", await in_db(cookie_of, operator))
        assert await hear(watcher) == {"state": "queued"}
        await hear_chunks(watcher, up_to=0)
        await in_db(read_and_store)
        event = await watcher.receive_output(timeout=DEADLINE_SECONDS)
        # Chunks, and perhaps that it runs, may reach it first.
        while event["type"] == "websocket.send" and '"final"' not in event["text"]:
            event = await watcher.receive_output(timeout=DEADLINE_SECONDS)
        if event["type"] == "websocket.send":
            # The chunks reached it before they were removed.
            assert json.loads(event["text"]) == {"state": "completed", "final": True}
            event = await watcher.receive_output(timeout=DEADLINE_SECONDS)
            assert event["code"] == 1000
        else:
            assert event["code"] == 4410
        assert hub().open_streams == 0

    run(main)


def test_the_anonymous_are_refused() -> None:
    session = completed()

    async def main() -> None:
        assert await refusal(socket(session.pk)) == 4403
        assert await refusal(socket(session.pk, "no-such-cookie")) == 4403

    run(main)


@pytest.mark.parametrize(
    ("columns", "codenames"),
    [
        ({"is_staff": True}, []),
        ({"is_staff": True}, ["change_chatsession", "view_chunk"]),
        ({"is_staff": False}, ["view_chatsession"]),
        ({"is_staff": True, "is_active": False}, ["view_chatsession"]),
    ],
)
def test_all_but_active_staff_with_the_permission_are_refused(columns: dict[str, Any], codenames: list[str]) -> None:
    session = completed()
    stranger = User.objects.create_user("stranger", **columns)
    stranger.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    cookie = cookie_of(stranger)

    async def main() -> None:
        assert await refusal(socket(session.pk, cookie)) == 4403

    run(main)


def test_a_session_about_a_person_takes_the_permission_for_it(cookie: str, operator: User) -> None:
    session = completed(origin="ocr")
    reviewing = Permission.objects.get(codename="review_ktp")

    async def main() -> None:
        assert await refusal(socket(session.pk, cookie)) == 4403
        await in_db(lambda: operator.user_permissions.add(reviewing))
        watcher = await opened(session.pk, cookie)
        await hear_chunks(watcher, up_to=1)

    run(main)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"host", b"localhost"), (b"origin", b"https://elsewhere.example")],
        [(b"host", b"localhost:3000"), (b"origin", b"http://localhost:8000")],
        [(b"host", b"localhost:3000"), (b"origin", b"http://localhost")],
        [(b"host", b"localhost"), (b"origin", b"http://127.0.0.1")],
        [(b"host", b"localhost"), (b"origin", b"null")],
        [(b"host", b"localhost")],
        [(b"host", b"localhost"), (b"origin", b"http://localhost"), (b"origin", b"https://elsewhere.example")],
        [(b"host", b"elsewhere.example"), (b"origin", b"http://elsewhere.example")],
        [(b"origin", b"http://localhost")],
    ],
)
def test_a_page_of_another_origin_is_refused(cookie: str, headers: list[tuple[bytes, bytes]]) -> None:
    session = completed()

    async def main() -> None:
        watcher = WebsocketCommunicator(
            application,
            f"/ws/admin/sessions/{session.pk}/",
            [*headers, (b"cookie", f"{settings.SESSION_COOKIE_NAME}={cookie}".encode())],
        )
        assert not (await watcher.connect(timeout=DEADLINE_SECONDS))[0]

    run(main)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:3000", "http://localhost:3000"),
        ("127.0.0.1:3000", "https://127.0.0.1:3000"),
        ("[::1]:3000", "http://[::1]:3000"),
        ("localhost:443", "https://localhost"),
        ("localhost:3000", "https://ai.example.org"),
    ],
)
def test_a_page_of_the_servers_own_is_let_in(
    cookie: str, host: str, origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "CSRF_TRUSTED_ORIGINS", ["https://ai.example.org"])
    session = completed()

    async def main() -> None:
        watcher = socket(session.pk, cookie, host=host, origin=origin)
        assert (await watcher.connect(timeout=DEADLINE_SECONDS))[0]
        await watcher.disconnect()

    run(main)


def test_a_session_that_is_being_cancelled_says_so(cookie: str) -> None:
    session = claimed(open_session())
    transitions.request_cancel(session.pk)

    async def main() -> None:
        watcher = await opened(session.pk, cookie)
        assert await hear(watcher) == {"state": "cancelling"}
        await watcher.disconnect()

    run(main)


def test_over_https_a_page_of_plain_http_is_refused(cookie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "SECURE_PROXY_SSL_HEADER", ("HTTP_X_FORWARDED_PROTO", "https"))
    session = completed()

    async def main() -> None:
        for origin, is_let_in in (("http://localhost", False), ("https://localhost", True)):
            watcher = socket(session.pk, cookie, origin=origin, more=[(b"x-forwarded-proto", b"https")])
            assert (await watcher.connect(timeout=DEADLINE_SECONDS))[0] is is_let_in
            if is_let_in:
                await watcher.disconnect()

    run(main)


def log_out(cookie: str) -> None:
    client = Client()
    client.cookies[settings.SESSION_COOKIE_NAME] = cookie
    assert client.post("/accounts/logout/").status_code == 302


def deactivate(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


def take_from_the_staff(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_staff=False)


def take_the_right(user: User) -> None:
    user.user_permissions.clear()


def change_the_password(user: User) -> None:
    user.set_password("another")
    user.save()


def let_the_log_in_expire(user: User) -> None:
    Session.objects.update(expire_date=timezone.now())


def delete(user: User) -> None:
    user.delete()


@pytest.mark.parametrize(
    "end",
    [
        deactivate, take_from_the_staff, take_the_right, change_the_password, let_the_log_in_expire, delete,
        pytest.param(None, id="log_out"),
    ],
)  # fmt: skip
def test_who_may_not_watch_any_more_is_shown_no_more(
    operator: User, cookie: str, end: Callable[[User], None] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_permissions, "CHECK_SECONDS", 0.1)
    session = claimed(open_session())
    other = User.objects.create_superuser("other")
    others_cookie = cookie_of(other)

    async def main() -> None:
        watcher, others = await opened(session.pk, cookie), await opened(session.pk, others_cookie)
        for view in (watcher, others):
            await hear_chunks(view, up_to=0)
        await (in_db(end, operator) if end else in_db(log_out, cookie))
        assert await hear_close(watcher) == 4403
        await in_db(say, session, text("A "))
        if end is not let_the_log_in_expire:
            assert [chunk["index"] for chunk in await hear_chunks(others, up_to=1)] == [1]
        assert hub().open_streams == (1 if end is not let_the_log_in_expire else 0)
        await watcher.disconnect()
        await others.disconnect()
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "watchers"]

    run(main)


def test_all_watchers_of_a_process_cost_two_queries(operator: User, django_assert_num_queries: Any) -> None:
    group = Group.objects.create(name="operators")
    group.permissions.set(Permission.objects.filter(codename="view_chatsession"))
    users = [operator, *(User.objects.create_user(f"watcher {n}", is_staff=True) for n in range(5))]
    for user in users[1:]:
        user.groups.add(group)
    log_ins = {
        watch_permissions.LogIn(cookie_of(user), user.pk, user.get_session_auth_hash())
        for user in users
        for _ in range(3)
    }
    with django_assert_num_queries(2):
        assert watch_permissions.still_permitted(log_ins) == log_ins
    users[1].groups.clear()
    may_watch = watch_permissions.still_permitted(log_ins)
    assert {log_in.user_id for log_in in log_ins - may_watch} == {users[1].pk}


def test_more_watchers_than_one_statement_may_name_are_asked_for_in_turn(
    operator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_permissions, "BATCH", 2)
    log_ins = {
        watch_permissions.LogIn(cookie_of(operator), operator.pk, operator.get_session_auth_hash()) for _ in range(5)
    }
    assert watch_permissions.still_permitted(log_ins) == log_ins


def test_a_database_that_is_away_turns_nobody_out(
    operator: User, cookie: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watch_permissions, "CHECK_SECONDS", 0.1)
    session = claimed(open_session())
    asked = threading.Event()

    def away(log_ins: object) -> set[watch_permissions.LogIn]:
        asked.set()
        raise OperationalError("away")

    async def main() -> None:
        watcher = await opened(session.pk, cookie)
        monkeypatch.setattr(watch_permissions, "still_permitted", away)
        await hear_chunks(watcher, up_to=0)
        assert await asyncio.to_thread(asked.wait, DEADLINE_SECONDS)
        await in_db(say, session, text("A "))
        assert [chunk["index"] for chunk in await hear_chunks(watcher, up_to=1)] == [1]
        monkeypatch.undo()
        await in_db(deactivate, operator)
        assert await hear_close(watcher) == 4403

    run(main)
    assert "checked again" in caplog.text


def test_an_unknown_session_closes_as_not_found(cookie: str) -> None:
    async def main() -> None:
        assert await hear_close(await opened("sess_unknown", cookie)) == 4404

    run(main)


def test_an_expired_session_closes_as_gone(cookie: str) -> None:
    session = completed()
    sweeper.expire(session.pk)

    async def main() -> None:
        assert await hear_close(await opened(session.pk, cookie)) == 4410

    run(main)


@pytest.mark.parametrize("after", ["x", "-2", "1.5", "99999999999"])
def test_a_malformed_cursor_closes_the_view(cookie: str, after: str) -> None:
    session = completed()

    async def main() -> None:
        assert await hear_close(await opened(session.pk, cookie, f"?after={after}")) == 4400

    run(main)


def test_any_other_address_is_refused_without_an_error(cookie: str) -> None:
    async def main() -> None:
        watcher = WebsocketCommunicator(
            application, "/ws/elsewhere/", [(b"host", b"localhost"), (b"origin", b"http://localhost")]
        )
        assert await refusal(watcher) == 4404

    run(main)
