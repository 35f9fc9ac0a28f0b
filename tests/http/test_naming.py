"""How a request names its session, and what becomes of one that nobody has named."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.http.response import HttpResponseBase
from django.test import AsyncClient
from pytest_django import Settings

from inference import generations
from inference.api import chat
from sessions_app.errors import ApiError
from sessions_app.models import ChatSession
from sessions_app.store import opening
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

HALO: dict[str, Any] = {"messages": [{"role": "user", "content": "Halo"}], "stream": True}


def post(body: dict[str, Any], **headers: str) -> HttpResponseBase:
    async def ask() -> HttpResponseBase:
        response: HttpResponseBase = await AsyncClient().post(
            "/v1/chat/completions", body, "application/json", headers=headers
        )
        return response

    return async_to_sync(ask)()


def error_of(response: HttpResponseBase, status: int) -> dict[str, Any]:
    assert response.status_code == status
    return dict(json.loads(response.content)["error"])  # type: ignore[attr-defined]


def test_a_retry_with_the_same_idempotency_key_attaches_to_the_session() -> None:
    first, second = (post(HALO, idempotency_key="order 7/ü") for _ in range(2))
    assert first["X-Session-ID"] == second["X-Session-ID"]
    assert ChatSession.objects.get().is_named


def test_an_idempotency_key_names_a_session_for_its_caller_alone(settings: Settings) -> None:
    settings.API_KEYS = ["alice", "bob"]
    ids = {post(HALO, idempotency_key="1", authorization=f"Bearer {key}")["X-Session-ID"] for key in ("alice", "bob")}
    assert len(ids) == 2
    # Nor does it tell the id: whoever knows that can read the session.
    assert not any(session_id.endswith("1") and len(session_id) < 20 for session_id in ids)


def test_another_request_with_the_same_idempotency_key_is_a_conflict() -> None:
    named = post(HALO, idempotency_key="k")["X-Session-ID"]
    refused = post(HALO | {"seed": 5}, idempotency_key="k")
    error = error_of(refused, 409)
    assert (error["code"], error["param"]) == ("session_conflict", "Idempotency-Key")
    # Its id would let whoever has guessed the key of another read that session.
    assert named not in error["message"]
    assert refused["X-Should-Retry"] == "false"


def test_the_id_in_the_body_goes_before_the_idempotency_key() -> None:
    assert post(HALO | {"session_id": "mine"}, idempotency_key="k")["X-Session-ID"] == "mine"


def test_an_empty_idempotency_key_names_nothing_and_a_long_one_is_refused() -> None:
    assert post(HALO, idempotency_key="")["X-Session-ID"] != post(HALO, idempotency_key="")["X-Session-ID"]
    assert error_of(post(HALO, idempotency_key="k" * 256), 400)["param"] == "Idempotency-Key"


def test_a_conflict_says_what_to_do() -> None:
    post(HALO | {"session_id": "chat-1"})
    message = error_of(post(HALO | {"session_id": "chat-1", "seed": 5}), 409)["message"]
    assert "chat-1" in message
    assert "use another session_id" in message
    assert "SESSION_ID_FIELD" in message


@pytest.mark.parametrize(("session_id", "is_cancelled"), [(None, True), ("mine", False)])
def test_a_whole_answer_that_nobody_has_named_is_cancelled_when_its_client_has_gone(
    session_id: str | None, is_cancelled: bool
) -> None:
    session, _ = opening.open_session(session_id=session_id, request={}, request_digest="", model="tiny")

    async def leave() -> None:
        waiting = asyncio.create_task(chat._whole(session))
        await asyncio.sleep(0)  # It has begun to wait, and nobody will answer.
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()

    async_to_sync(leave)()
    session.refresh_from_db()
    assert (session.state == ChatSession.State.CANCELLED) is is_cancelled


@pytest.mark.parametrize(("named", "is_cancelled"), [({}, True), ({"session_id": "mine"}, False)])
@pytest.mark.parametrize("stream", [True, False])
def test_a_session_whose_client_leaves_while_it_is_opened_is_cancelled_unless_it_was_named(
    monkeypatch: pytest.MonkeyPatch, named: dict[str, str], is_cancelled: bool, stream: bool
) -> None:
    opened, may_return = threading.Event(), threading.Event()
    open_sessions = opening.open_sessions

    def slowly(asked: Sequence[opening.NewSession]) -> list[opening.Opened | ApiError]:
        results = open_sessions(asked)
        opened.set()
        assert may_return.wait(20)
        return results

    monkeypatch.setattr(opening, "open_sessions", slowly)

    async def leave() -> None:
        asking = asyncio.create_task(
            AsyncClient().post("/v1/chat/completions", HALO | {"stream": stream} | named, "application/json")
        )
        await asyncio.to_thread(opened.wait, 20)
        asking.cancel()
        await asyncio.wait([asking])
        may_return.set()
        await until(lambda: not any(opener._calls for opener in generations._openers.values()))

    async_to_sync(leave)()
    assert (ChatSession.objects.get().state == ChatSession.State.CANCELLED) is is_cancelled


def test_a_server_may_have_another_name_for_the_id_of_a_session() -> None:
    """Read when the request's fields are declared, so in a process of its own."""
    program = """
import django
django.setup()
from inference.api.digest import digest_of
from inference.api.schemas import ChatCompletionRequest, FIELD_NAMES
halo = {"messages": [{"role": "user", "content": "Halo"}]}
asked = ChatCompletionRequest.model_validate(halo | {"session_id": "conversation 1", "answer_id": "mine"})
asked.check()
assert asked.session_id == "mine", asked.session_id
assert digest_of(asked) == digest_of(ChatCompletionRequest.model_validate(halo))
assert "answer_id" in FIELD_NAMES
assert "answer_id" in ChatCompletionRequest.model_json_schema()["properties"]
print("as it should be")
"""
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings", "SESSION_ID_FIELD": "answer_id"}
    environment |= {"SECRET_KEY": "x" * 50, "ENV_FILE": os.devnull}
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.stdout.strip() == "as it should be", ran.stderr
