"""Every role at every address: the status, and who gets a NIK in clear. An address without a row here fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.conf import settings as django_settings
from django.contrib.auth.models import Group, User
from django.db import connections
from django.http import StreamingHttpResponse
from django.test import Client
from django.urls import URLResolver, get_resolver

from config.asgi import application
from ocr.models import KtpExtraction
from ocr.submissions import KtpSubmission, KtpSubmittedImage
from sessions_app.callers import caller_with_key
from sessions_app.models import ChatSession
from tests.db.ktp_cards import CARD_JSON, answer, read_extraction, reading_extraction
from tests.ktp_card import CARD

# Some views are asynchronous: their database work runs on other threads, so nothing may hide in a transaction.
pytestmark = pytest.mark.django_db(transaction=True)

KEY, OTHER_KEY = "k" * 40, "o" * 40
#: the columns of the table: the card's uploader and another clerk, the groups, the key that sent the other card
ROLES = ("anonymous", "own", "other", "reviewer", "operator", "auditor", "root", "key", "other_key")


@dataclass(frozen=True)
class Row:
    """One method at one address."""

    pattern: str
    #: statuses in the order of ``ROLES``
    statuses: str
    path: str
    method: str = "GET"
    data: dict[str, str] = field(default_factory=dict)
    #: who gets the NIK of a card in clear
    in_clear: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.path} {' '.join(self.data)}".replace("{", "").replace("}", "")


ROWS = (
    # --- The clerk's pages: the card of "own" ---
    Row("ocr/", "302 200 200 403 403 403 200 302 302", "/ocr/"),
    Row("ocr/progress/", "302 200 200 200 200 200 200 302 302", "/ocr/progress/?reading={card}"),
    Row("ocr/<uuid:pk>/", "302 200 404 200 404 200 200 302 302", "/ocr/{card}/"),
    Row(
        "ocr/<uuid:pk>/",
        "302 302 404 302 404 403 302 302 302",
        "/ocr/{card}/",
        "POST",
        {"action": "reveal"},
    ),
    Row(
        "ocr/<uuid:pk>/",
        "302 200 404 302 404 403 302 302 302",
        "/ocr/{card}/",
        "POST",
        {"action": "reveal", "version": "{version}", "nama": "X"},
        in_clear="own",
    ),
    Row("ocr/<uuid:pk>/", "302 302 404 404 404 404 404 302 302", "/ocr/{card}/", "POST", {"version": "{version}"}),
    Row("ocr/<uuid:pk>/check/", "302 200 404 404 404 404 404 302 302", "/ocr/{card}/check/", "POST"),
    Row("ocr/<uuid:pk>/image/", "302 200 404 200 404 404 200 302 302", "/ocr/{card}/image/"),
    Row("ocr/<uuid:pk>/events/", "401 200 404 200 404 404 200 401 401", "/ocr/{clerks_open}/events/"),
    Row("ocr/<uuid:pk>/cancel/", "302 302 404 404 404 404 404 302 302", "/ocr/{clerks_open}/cancel/", "POST"),
    Row("ocr/<uuid:pk>/turn/", "302 400 404 404 404 404 404 302 302", "/ocr/{card}/turn/", "POST"),
    # --- The desk and the admin ---
    Row("admin/ocr/review/", "302 302 302 200 403 403 200 302 302", "/admin/ocr/review/"),
    Row("admin/ocr/review/next/", "302 302 302 302 403 403 302 302 302", "/admin/ocr/review/next/", "POST"),
    Row("admin/ocr/review/logged-in/", "302 302 302 204 403 403 204 302 302", "/admin/ocr/review/logged-in/"),
    Row("admin/ocr/review/accuracy/", "302 302 302 200 403 200 200 302 302", "/admin/ocr/review/accuracy/"),
    Row("admin/ocr/review/<uuid:pk>/", "302 302 302 200 403 403 200 302 302", "/admin/ocr/review/{card}/"),
    Row(
        "admin/ocr/review/<uuid:pk>/",
        "302 302 302 200 403 403 200 302 302",
        "/admin/ocr/review/{card}/",
        "POST",
        {"version": "{version}", "nama": "X", "_reveal": "1"},
        in_clear="reviewer root",
    ),
    Row(
        "admin/ocr/review/<uuid:pk>/undo/",
        "302 302 302 409 403 403 409 302 302",
        "/admin/ocr/review/{card}/undo/",
        "POST",
        {"version": "{version}"},
    ),
    Row("admin/ocr/find/", "302 302 302 302 403 302 302 302 302", "/admin/ocr/find/", "POST", {"term": CARD["nik"]}),
    Row("admin/ocr/ktpextraction/", "302 302 302 200 403 200 200 302 302", "/admin/ocr/ktpextraction/"),
    Row(
        "admin/ocr/ktpextraction/",
        "302 302 302 302 403 200 200 302 302",
        "/admin/ocr/ktpextraction/",
        "POST",
        {"action": "export_selected", "_selected_action": "{card}", "export": "1", "form": "csv", "purpose": "test"},
        in_clear="root",
    ),
    Row("admin/ocr/ktpextraction/add/", "302 302 302 403 403 403 403 302 302", "/admin/ocr/ktpextraction/add/"),
    Row(
        "admin/ocr/ktpextraction/<path:object_id>/change/",
        "302 302 302 200 403 200 200 302 302",
        "/admin/ocr/ktpextraction/{card}/change/",
    ),
    Row(
        "admin/ocr/ktpextraction/<path:object_id>/history/",
        "302 302 302 200 403 200 200 302 302",
        "/admin/ocr/ktpextraction/{card}/history/",
    ),
    Row(
        "admin/ocr/ktpextraction/<path:object_id>/delete/",
        "302 302 302 403 403 403 200 302 302",
        "/admin/ocr/ktpextraction/{card}/delete/",
    ),
    # --- The rights of holders, and the audit log ---
    Row("admin/ocr/person/", "302 302 302 403 403 200 200 302 302", "/admin/ocr/person/"),
    Row(
        "admin/ocr/person/",
        "302 302 302 403 403 200 200 302 302",
        "/admin/ocr/person/",
        "POST",
        {"nik": "{nik}"},
    ),
    Row(
        "admin/ocr/person/export/",
        "302 302 302 403 403 200 200 302 302",
        "/admin/ocr/person/export/",
        "POST",
        {"shown": "{card}", "reading": "{card}", "format": "json", "reference": "1"},
        in_clear="auditor root",
    ),
    Row("admin/ocr/person/hold/", "302 302 302 403 403 400 400 302 302", "/admin/ocr/person/hold/", "POST"),
    Row("admin/ocr/person/erase/", "302 302 302 403 403 400 400 302 302", "/admin/ocr/person/erase/", "POST"),
    Row("admin/ocr/person/receipt/", "302 302 302 403 403 400 400 302 302", "/admin/ocr/person/receipt/", "POST"),
    Row("admin/ocr/person/verify/", "302 302 302 403 403 200 200 302 302", "/admin/ocr/person/verify/"),
    Row("admin/ocr/audit/", "302 302 302 403 403 200 200 302 302", "/admin/ocr/audit/"),
    Row(
        "admin/ocr/audit/breach/",
        "302 302 302 403 403 200 200 302 302",
        "/admin/ocr/audit/breach/?who=own&since=2020-01-01T00:00&until=2100-01-01T00:00",
    ),
    Row(
        "admin/ocr/audit/breach/",
        "302 302 302 403 403 200 200 302 302",
        "/admin/ocr/audit/breach/?who=own&since=2020-01-01T00:00&until=2100-01-01T00:00&format=csv",
    ),
    # --- Deliveries to callback addresses, which name readings by their ids ---
    Row("admin/ocr/ktpcallback/", "302 302 302 403 200 403 200 302 302", "/admin/ocr/ktpcallback/"),
    Row("admin/ocr/ktpcallback/add/", "302 302 302 403 403 403 403 302 302", "/admin/ocr/ktpcallback/add/"),
    Row(
        "admin/ocr/ktpcallback/<path:object_id>/change/",
        "302 302 302 403 302 403 302 302 302",
        "/admin/ocr/ktpcallback/1/change/",
    ),
    Row(
        "admin/ocr/ktpcallback/<path:object_id>/history/",
        "302 302 302 302 302 302 302 302 302",
        "/admin/ocr/ktpcallback/1/history/",
    ),
    Row(
        "admin/ocr/ktpcallback/<path:object_id>/delete/",
        "302 302 302 403 403 403 403 302 302",
        "/admin/ocr/ktpcallback/1/delete/",
    ),
    # --- The session of a card that the key has sent and whose reading is not stored yet ---
    Row("admin/now/", "302 302 302 403 200 200 200 302 302", "/admin/now/"),
    Row("admin/now/table/", "302 302 302 403 200 200 200 302 302", "/admin/now/table/"),
    Row(
        "admin/sessions_app/chatsession/",
        "302 302 302 403 200 200 200 302 302",
        "/admin/sessions_app/chatsession/",
    ),
    Row(
        "admin/sessions_app/chatsession/<path:object_id>/change/",
        "302 302 302 403 200 200 200 302 302",
        "/admin/sessions_app/chatsession/{session_key}/change/",
        in_clear="root",
    ),
    Row(
        "admin/sessions_app/chatsession/<path:object_id>/history/",
        "302 302 302 403 200 200 200 302 302",
        "/admin/sessions_app/chatsession/{session_key}/history/",
    ),
    Row(
        "admin/sessions_app/chatsession/<path:object_id>/delete/",
        "302 302 302 403 200 403 200 302 302",
        "/admin/sessions_app/chatsession/{session_key}/delete/",
    ),
    Row(
        "admin/sessions_app/chatsession/<str:session_id>/facts/",
        "302 302 302 403 200 200 200 302 302",
        "/admin/sessions_app/chatsession/{session}/facts/",
    ),
    Row(
        "admin/sessions_app/chatsession/<str:session_id>/media/<int:position>/",
        "302 302 302 403 403 403 200 302 302",
        "/admin/sessions_app/chatsession/{session}/media/0/",
    ),
    Row(
        "admin/sessions_app/chatsession/<str:session_id>/media/<int:position>/thumbnail/",
        "302 302 302 403 403 403 302 302 302",
        "/admin/sessions_app/chatsession/{session}/media/0/thumbnail/",
    ),
    Row(
        "admin/sessions_app/chatsession/",
        "302 302 302 403 200 200 200 302 302",
        "/admin/sessions_app/chatsession/",
        "POST",
        {"action": "export_selected", "_selected_action": "{session}"},
        in_clear="root",
    ),
    Row(
        "admin/sessions_app/chunk/",
        "302 302 302 403 403 403 200 302 302",
        "/admin/sessions_app/chunk/?session__id__exact={session}",
        in_clear="root",
    ),
    Row(
        "admin/sessions_app/chunk/<path:object_id>/change/",
        "302 302 302 403 403 403 200 302 302",
        "/admin/sessions_app/chunk/{chunk}/change/",
        in_clear="root",
    ),
    Row(
        "admin/sessions_app/chunk/<path:object_id>/history/",
        "302 302 302 403 403 403 200 302 302",
        "/admin/sessions_app/chunk/{chunk}/history/",
    ),
    # --- The API ---
    Row("ktp-ocr/", "401 401 401 401 401 401 401 400 400", "/ktp-ocr/", "POST"),
    Row("ktp-ocr", "401 401 401 401 401 401 401 400 400", "/ktp-ocr", "POST"),
    Row(
        "ktp-ocr/<uuidstr:reading_id>",
        "401 401 401 401 401 401 401 200 404",
        "/ktp-ocr/{api_card}",
        in_clear="key",
    ),
    Row(
        "ktp-ocr/<uuidstr:reading_id>/",
        "401 401 401 401 401 401 401 404 404",
        "/ktp-ocr/{card}/",
    ),
    Row(
        "ktp-ocr/<uuidstr:reading_id>",
        "401 401 401 401 401 401 401 204 404",
        "/ktp-ocr/{api_card}",
        "DELETE",
    ),
    Row(
        "ktp-ocr/batches/<uuidstr:batch_id>",
        "401 401 401 401 401 401 401 200 404",
        "/ktp-ocr/batches/{batch}",
        in_clear="key",
    ),
    Row(
        "ktp-ocr/batches/<uuidstr:batch_id>/",
        "401 401 401 401 401 401 401 200 404",
        "/ktp-ocr/batches/{batch}/",
        in_clear="key",
    ),
    Row(
        "v1/sessions/<session_id>/events",
        "401 401 401 401 401 401 401 200 404",
        "/v1/sessions/{session}/events",
        in_clear="key",
    ),
)

#: addresses below these show no card: accounts, workers, chats, the API's own description, probes
NOT_ABOUT_CARDS = (
    *("", "favicon.ico", "accounts/", "language/", "openapi.json", "docs", "health", "live", "ready", "metrics"),
    *("v1/chat/completions", "v1/cancel/", "v1/models", "admin/now/stop/", "admin/login/", "admin/logout/"),
    *("admin/password_change/", "admin/autocomplete/", "admin/jsi18n/", "admin/r/", "admin/auth/"),
    *("admin/inference/", "admin/axes/", "admin/sessions_app/chunk/add/", "admin/sessions_app/chatsession/add/"),
    # Actions without an answer of their own, Django's redirects to "change/", its index, list of apps and 404.
    *("admin/sessions_app/chatsession/<str:session_id>/cancel/", "admin/sessions_app/chunk/<path:object_id>/delete/"),
    *("admin/sessions_app/chatsession/<str:session_id>/requeue/", "admin/"),
)
REDIRECTS = "<path:object_id>/"
WHOLE = ("", "admin/")


@dataclass
class World:
    card: KtpExtraction
    clerks_open: KtpExtraction
    api_card: KtpExtraction
    batch: KtpSubmission
    open_session: ChatSession
    users: dict[str, User]

    @property
    def names(self) -> dict[str, Any]:
        session = self.open_session.pk
        return {
            "card": self.card.pk,
            "version": self.card.version,
            "nik": CARD["nik"],
            "clerks_open": self.clerks_open.pk,
            "api_card": self.api_card.pk,
            "batch": self.batch.pk,
            "session": session,
            "session_key": session.replace("_", "_5F"),
            "chunk": self.open_session.chunks.get(index=2).pk,
        }

    def ask(self, role: str, row: Row) -> Any:
        client = Client(raise_request_exception=False)
        if role in self.users:
            client.force_login(self.users[role])
        keys = {"key": KEY, "other_key": OTHER_KEY}
        headers = {"Authorization": f"Bearer {keys[role]}"} if role in keys else {}
        data = {name: value.format(**self.names) for name, value in row.data.items()}
        return getattr(client, row.method.lower())(row.path.format(**self.names), data or None, headers=headers)


@pytest.fixture
def make_world(settings) -> Any:
    settings.API_KEYS = [KEY, OTHER_KEY]
    users = {"root": User.objects.create_superuser("root")}
    for name, group in (
        *(("own", "Clerk"), ("other", "Clerk"), ("reviewer", "Reviewer")),
        *(("operator", "Operator"), ("auditor", "Auditor")),
    ):
        users[name] = User.objects.create_user(name, is_staff=group != "Clerk")
        users[name].groups.set(Group.objects.filter(name=group))

    def make() -> World:
        caller = caller_with_key(KEY)
        api_card = read_extraction()
        KtpExtraction.objects.filter(pk=api_card.pk).update(caller=caller)
        unfinished = reading_extraction()
        clerks_open = reading_extraction(users["own"])
        for extraction in (unfinished, clerks_open):
            answer(extraction.session_id, CARD_JSON)
        session = unfinished.session
        assert session is not None
        ChatSession.objects.filter(pk=session.pk).update(caller=caller)
        session.media.create(position=0, kind="image", content_type="image/png", sha256="0" * 64, size=1, data=b"x")
        batch = KtpSubmission.objects.create(caller=caller, is_batch=True, count=1)
        KtpSubmittedImage.objects.create(submission=batch, position=0, digest="", extraction=api_card)
        return World(read_extraction(users["own"]), clerks_open, api_card, batch, session, users)

    return make


def body_of(response: Any) -> bytes:
    if not isinstance(response, StreamingHttpResponse):
        return bytes(response.content)
    if not response.is_async:
        return b"".join(response.streaming_content)  # type: ignore[arg-type]

    async def read() -> bytes:
        return b"".join([piece async for piece in response])

    async def read_and_close() -> bytes:
        try:
            return await read()
        finally:
            await sync_to_async(connections.close_all)()

    return asyncio.run(read_and_close())


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_who_gets_what(row: Row, make_world: Any) -> None:
    world = make_world()
    statuses, in_clear = [], []
    for role in ROLES:
        if row.method != "GET":
            world = make_world()
        response = world.ask(role, row)
        statuses.append(str(response.status_code))
        if CARD["nik"].encode() in body_of(response).replace(b'", "', b"").replace(b'\\"', b'"'):
            in_clear.append(role)
    assert (" ".join(statuses), " ".join(in_clear)) == (row.statuses, row.in_clear)


@pytest.mark.parametrize(
    ("role", "code"), [("own", 4403), ("reviewer", 4403), ("operator", 4403), ("auditor", 4403), ("root", 1000)]
)
def test_who_may_follow_the_session_of_a_card_over_its_socket(make_world: Any, role: str, code: int) -> None:
    world = make_world()
    client = Client()
    client.force_login(world.users[role])
    cookie = client.cookies[django_settings.SESSION_COOKIE_NAME].value
    session = world.open_session.pk

    async def follow() -> tuple[int, str]:
        origin = [(b"host", b"localhost"), (b"origin", b"http://localhost")]
        headers = [*origin, (b"cookie", f"{django_settings.SESSION_COOKIE_NAME}={cookie}".encode())]
        socket = WebsocketCommunicator(application, f"/ws/admin/sessions/{session}/", headers=headers)
        try:
            accepted, closed = await socket.connect(timeout=20)
            if not accepted:
                return closed or 0, ""
            said = ""
            while (message := await socket.receive_output(timeout=20))["type"] == "websocket.send":
                said += message["text"]
            return message["code"], said
        finally:
            await sync_to_async(connections.close_all)()

    ended, said = asyncio.run(follow())
    assert ended == code
    assert (CARD["nama"] in said) == (code == 1000)


def addresses(resolver: Any = None, before: str = "") -> Iterator[str]:
    for pattern in (resolver or get_resolver()).url_patterns:
        path = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from addresses(pattern, path)
        else:
            yield path


def test_every_address_has_a_row() -> None:
    covered = {row.pattern for row in ROWS}
    missing = {
        path
        for path in addresses()
        if path not in covered
        and not path.startswith("admin/^(?P<app_label>")
        and path != "admin/(?P<url>.*)$"
        and not (path.endswith(REDIRECTS) and path.count("<") == 1 and path.startswith("admin/"))
        and path not in WHOLE
        and not path.startswith(tuple(prefix for prefix in NOT_ABOUT_CARDS if prefix not in WHOLE))
    }
    assert missing == set()


def test_no_row_is_about_an_address_that_there_is_not() -> None:
    assert {row.pattern for row in ROWS} <= set(addresses())
