"""``/health`` and the refusals of API paths, through Django's own clients, without a worker."""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import Awaitable
from typing import Any

import pytest
from django.conf import settings
from django.db import DataError, OperationalError
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.utils import timezone

from inference import readiness
from inference.api import auth
from inference.api.error_rendering import as_api_error
from inference.models import MISSED_HEARTBEATS, ModelWorker
from sessions_app.db import in_db
from sessions_app.errors import ApiError
from sessions_app.models import ChatSession
from sessions_app.store import opening, transitions
from sessions_app.store.appending import Closing

pytestmark = pytest.mark.django_db(transaction=True)

HALO: dict[str, Any] = {"messages": [{"role": "user", "content": "Halo"}], "stream": True}


def run(answering: Awaitable[Any]) -> HttpResponse:
    async def within_deadline() -> Any:
        async with asyncio.timeout(30):
            return await answering

    return asyncio.run(within_deadline())


def get(path: str, **headers: str) -> HttpResponse:
    return run(AsyncClient().get(path, headers=headers))


def post(path: str, body: object = None, *, content_type: str = "application/json", **headers: str) -> HttpResponse:
    data = body if isinstance(body, bytes) else json.dumps(body)
    return run(AsyncClient().generic("POST", path, data, content_type, headers=headers))


def error_of(response: HttpResponse, status: int) -> dict[str, Any]:
    body = json.loads(response.content)
    assert response.status_code == status, body
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert response["X-Request-ID"]
    return dict(body["error"])


def health() -> dict[str, Any]:
    response = get("/health")
    assert response.status_code == 200
    body: dict[str, Any] = json.loads(response.content)
    assert body["modelId"] == settings.SERVED_MODEL_NAME
    return body


def worker(name: str, state: ModelWorker.State, *, silent_beats: float = 0, **columns: Any) -> None:
    beat = timezone.now() - datetime.timedelta(seconds=silent_beats * settings.WORKER_HEARTBEAT_SECONDS)
    ModelWorker.objects.create(name=name, model="tiny", state=state, heartbeat_at=beat, **columns)


# --- Readiness ---


def test_without_a_worker_requests_wait() -> None:
    body = health()
    assert (body["ok"], body["modelReady"]) == (True, False)
    assert "No worker" in body["error"]
    assert_chat_is_queued()


def test_while_the_model_loads_requests_wait() -> None:
    worker("a", ModelWorker.State.LOADING, progress="weights 2 of 4")
    body = health()
    assert (body["ok"], body["modelReady"], body["error"]) == (True, False, None)
    assert body["progress"] == "weights 2 of 4"
    assert_chat_is_queued()


def test_a_loaded_model_is_ready() -> None:
    worker("a", ModelWorker.State.READY)
    body = health()
    assert (body["ok"], body["modelReady"], body["error"]) == (True, True, None)
    assert_chat_is_queued()


def test_a_model_that_failed_to_load_refuses_with_its_error() -> None:
    worker("a", ModelWorker.State.FAILED, error="out of memory")
    body = health()
    assert (body["ok"], body["modelReady"], body["error"]) == (True, False, "out of memory")
    refused = post("/v1/chat/completions", HALO)
    error = error_of(refused, 503)
    assert error["code"] == "model_not_loaded"
    assert "out of memory" in error["message"]
    assert refused["Retry-After"]
    assert not ChatSession.objects.exists()


@pytest.mark.parametrize("other", [ModelWorker.State.LOADING, ModelWorker.State.READY])
def test_one_worker_that_can_is_enough(other: ModelWorker.State) -> None:
    worker("a", ModelWorker.State.FAILED, error="out of memory")
    worker("b", other)
    assert health()["error"] is None
    assert_chat_is_queued()


@pytest.mark.parametrize("state", [ModelWorker.State.READY, ModelWorker.State.FAILED])
def test_a_worker_that_fell_silent_says_nothing(state: ModelWorker.State) -> None:
    worker("a", state, silent_beats=MISSED_HEARTBEATS + 1, error="old")
    body = health()
    assert not body["modelReady"]
    assert "No worker" in body["error"]


def test_a_worker_that_missed_a_beat_still_counts() -> None:
    worker("a", ModelWorker.State.READY, silent_beats=MISSED_HEARTBEATS - 2)
    assert health()["modelReady"]


def test_a_worker_that_stopped_says_nothing() -> None:
    worker("a", ModelWorker.State.STOPPED)
    assert "No worker" in health()["error"]


def test_health_answers_when_the_database_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> readiness.ModelHealth:
        raise OperationalError("connection refused, password was secret")

    monkeypatch.setattr(readiness, "read_model_health", away)
    body = health()
    assert (body["ok"], body["modelReady"]) == (False, False)
    assert "secret" not in body["error"]
    error = error_of(post("/v1/chat/completions", HALO), 503)
    assert error["code"] == "database_unavailable"
    assert "secret" not in error["message"]


def test_health_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "API_KEYS", ["right"])
    assert health()["ok"]
    refused = get("/v1/models")
    assert error_of(refused, 401)["code"] == "invalid_api_key"
    assert refused["WWW-Authenticate"] == "Bearer"
    for wrong in ("Bearer wrong", "Bearer rightx", "Basic right", "right", "Bearer é"):
        assert get("/v1/models", authorization=wrong).status_code == 401
    assert get("/v1/models", authorization="Bearer right").status_code == 200
    assert get("/v1/models", authorization="bearer  right ").status_code == 200


def test_wrong_keys_without_end_are_a_429_and_the_right_one_is_taken_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "API_KEYS", ["right"])
    auth.failures.cache_clear()
    answers = [get("/v1/models", authorization=f"Bearer wrong-{n}").status_code for n in range(25)]
    assert answers == [401] * settings.API_KEY_MAX_FAILURES + [429] * (25 - settings.API_KEY_MAX_FAILURES)
    refused = post("/v1/chat/completions", HALO, authorization="Bearer wrong")
    assert error_of(refused, 429)["code"] == "too_many_wrong_api_keys"
    assert int(refused["Retry-After"]) >= 1
    assert get("/v1/models", authorization="Bearer right").status_code == 200
    # To send none is no try.
    assert get("/v1/models").status_code == 401
    assert get("/v1/models", authorization="Bearer wrong", x_forwarded_for="203.0.113.7").status_code == 429
    monkeypatch.setattr(settings, "TRUSTED_PROXIES", ["127.0.0.0/8"])
    assert get("/v1/models", authorization="Bearer wrong", x_forwarded_for="203.0.113.7").status_code == 401
    auth.failures.cache_clear()


def assert_chat_is_queued() -> None:
    response = post("/v1/chat/completions", HALO)
    assert response.status_code == 200
    assert response["Content-Type"] == "text/event-stream"
    session = ChatSession.objects.get(pk=response["X-Session-ID"])
    assert session.state == ChatSession.State.QUEUED
    assert session.next_index == 1


# --- What cannot be understood ---


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stop": "\0"}, "stop"),
        ({"stop": ["\ud800"]}, "stop"),
        ({"messages": [{"role": "user", "content": "a\0"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "\udc00"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "\ud800", "content": "a"}]}, "messages[0].role"),
        ({"session_id": "a\0"}, "session_id"),
        ({"seed": 10**30}, "seed"),
        ({"temperature": 10**400}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
    ],
)
def test_what_the_database_could_not_hold_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    error = error_of(post("/v1/chat/completions", HALO | fields), 400)
    assert error["param"] == param
    assert len(error["message"]) < 300
    assert not ChatSession.objects.exists()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stop": 3}, "stop"),
        ({"stop": ["a", 3]}, "stop[1]"),
        ({"stop_token_ids": [-1]}, "stop_token_ids[0]"),
        ({"logit_bias": {"5": "x"}}, "logit_bias"),
        ({"stream_options": {"include_usage": "x"}}, "stream_options.include_usage"),
        ({"messages": 3}, "messages"),
        ({"messages": [3]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [3]}]}, "messages[0].content[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ],
)
def test_the_field_is_named_as_the_request_has_it(fields: dict[str, Any], param: str) -> None:
    assert error_of(post("/v1/chat/completions", HALO | fields), 400)["param"] == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "user", "content": "x"}] * 4097}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}] * 8193}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}] * 5000}] * 2},
            "messages[1].content",
        ),
        ({"stop": ["x"] * 10_000}, "stop"),
        ({"stop_token_ids": [1] * 10_000}, "stop_token_ids"),
        ({"logit_bias": {str(n): 1 for n in range(10_000)}}, "logit_bias"),
    ],
)
def test_lists_have_an_end(fields: dict[str, Any], param: str) -> None:
    assert error_of(post("/v1/chat/completions", HALO | fields), 400)["param"] == param
    assert not ChatSession.objects.exists()


@pytest.mark.parametrize("value", ["\0", "\ud800", 10**400, float("inf"), {"\ud800": 1}])
def test_odd_values_in_members_that_nobody_reads_do_no_harm(value: object) -> None:
    assert post("/v1/chat/completions", HALO | {"metadata": value}).status_code == 200


@pytest.mark.parametrize("name", ["a\0b", "\ud7ff", "x" * 10_000])
def test_an_odd_name_of_a_member_is_refused(name: str) -> None:
    error = error_of(post("/v1/chat/completions", HALO | {name: 1}), 400)
    assert (error["code"], error["param"]) == ("unknown_parameter", name[:64])


def test_more_tokens_than_any_database_holds_are_as_many_as_there_may_be() -> None:
    assert post("/v1/chat/completions", HALO | {"max_tokens": 10**400}).status_code == 200
    assert ChatSession.objects.get().request["sampling"]["max_tokens"] == settings.MAX_TOKENS_LIMIT


@pytest.mark.parametrize("depth", [200, 900, 1500, 100_000])
@pytest.mark.parametrize("place", ["member", "message", "part"])
def test_deep_nesting_is_taken_or_refused_but_breaks_nothing(depth: int, place: str) -> None:
    deep = '{"a":' * depth + "1" + "}" * depth
    message = {
        "member": '{"role":"user","content":"x"}',
        "message": f'{{"role":"user","content":"x","deep":{deep}}}',
        "part": f'{{"role":"user","content":[{{"type":"text","text":"x","deep":{deep}}}]}}',
    }[place]
    member = f',"deep":{deep}' if place == "member" else ""
    response = post("/v1/chat/completions", f'{{"messages":[{message}],"stream":true{member}}}'.encode())
    if response.status_code != 200:
        error_of(response, 400)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"nonsense", b'{"messages": [{"role": "user", "content": "\xff"}]}', b"[]", b"null", b'"x"', b"1",
        b'{"seed": ' + b"1" * 5000 + b"}",
    ],
)  # fmt: skip
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    error_of(post("/v1/chat/completions", body), 400)


def test_the_last_of_two_members_of_one_name_counts() -> None:
    body = b'{"messages": [{"role": "user", "content": "x"}], "stream": true, "max_tokens": 7, "max_tokens": 8}'
    session_id = post("/v1/chat/completions", body)["X-Session-ID"]
    assert ChatSession.objects.get(pk=session_id).request["sampling"]["max_tokens"] == 8


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "application/json;charset=nonsense", "Application/JSON"]
)
def test_json_is_json_whatever_stands_behind_it(content_type: str) -> None:
    assert post("/v1/chat/completions", HALO, content_type=content_type).status_code == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
def test_anything_else_is_a_415(content_type: str) -> None:
    error = error_of(post("/v1/chat/completions", HALO, content_type=content_type), 415)
    assert error["code"] == "unsupported_media_type"


def test_a_body_over_the_limit_is_a_413(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MAX_REQUEST_BYTES", 1000)
    assert error_of(post("/v1/chat/completions", HALO | {"x": "y" * 2000}), 413)["code"] == "request_too_large"


# --- Sessions that are not there ---


@pytest.mark.parametrize(
    "session_id", ["none", "...", "%00", "a%00b", "%ED%A0%80", "%0A", "x" * 5000, "a:b", "%F0%9F%91%8B"]
)
def test_an_id_that_no_session_has_is_not_found(session_id: str) -> None:
    for response in (get(f"/v1/sessions/{session_id}/events"), post(f"/v1/cancel/{session_id}")):
        error = error_of(response, 404)
        assert error["code"] == "session_not_found"
        assert len(error["message"]) < 300


@pytest.mark.parametrize("cursor", ["x", "x:", "%00:1", "x:1%0A", "x:99999999999", "x:-1"])
def test_a_malformed_cursor_in_the_query_is_refused_on_post_too(cursor: str) -> None:
    error = error_of(post(f"/v1/chat/completions?last_event_id={cursor}", {"stream": True}), 400)
    assert error["code"] == "malformed_cursor"


def test_the_cursor_in_the_header_wins_over_the_query() -> None:
    session, _ = opening.open_session(request={}, request_digest="", model="tiny")
    transitions.fail(session.pk, readiness.model_failed_error("x"))
    end = f"{session.pk}:{ChatSession.objects.get(pk=session.pk).next_index - 1}"
    path = f"/v1/sessions/{session.pk}/events"
    assert get(f"{path}?last_event_id={session.pk}:0").status_code == 200
    assert get(f"{path}?last_event_id={end}").status_code == 204
    assert get(f"{path}?last_event_id=nonsense", last_event_id=end).status_code == 204
    assert error_of(get(f"{path}?last_event_id={end}", last_event_id="nonsense"), 400)["code"] == "malformed_cursor"


def test_an_expired_session_is_gone_everywhere() -> None:
    session, _ = opening.open_session(request={}, request_digest="", model="tiny")
    transitions.fail(session.pk, readiness.model_failed_error("x"))
    ChatSession.objects.update(expired_at=timezone.now())
    assert error_of(get(f"/v1/sessions/{session.pk}/events"), 410)["code"] == "session_expired"
    resumed = post("/v1/chat/completions", {"stream": True}, last_event_id=f"{session.pk}:0")
    assert error_of(resumed, 410)["code"] == "session_expired"


def test_a_full_queue_asks_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MAX_QUEUED_SESSIONS", 1)
    first = post("/v1/chat/completions", HALO | {"session_id": "first"})
    assert first.status_code == 200
    refused = post("/v1/chat/completions", HALO)
    assert error_of(refused, 503)["code"] == "queue_full"
    assert refused["Retry-After"]
    # Who has a place keeps it.
    assert post("/v1/chat/completions", HALO | {"session_id": "first"}).status_code == 200


# --- Addresses and methods, also for browsers ---


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "TRACE"])
def test_a_wrong_method_is_a_405(method: str) -> None:
    refused = run(AsyncClient().generic(method, "/v1/chat/completions"))
    assert error_of(refused, 405)["code"] == "method_not_allowed"
    assert refused["Allow"] == "POST"


@pytest.mark.parametrize("path", ["/v1/none", "/v1/chat/completions", "/v1/sessions/none/events", "/health/"])
def test_a_browser_on_another_origin_may_read_what_was_refused(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "CORS_ALLOW_ALL_ORIGINS", True)
    refused = get(path, origin="https://app.example")
    assert refused.status_code in (404, 405)
    json.loads(refused.content)
    if path != "/health/":
        assert refused["Access-Control-Allow-Origin"] == "*"
        assert "X-Request-ID" in refused["Access-Control-Expose-Headers"]
    assert refused["X-Content-Type-Options"] == "nosniff"


def test_a_browser_may_send_a_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "CORS_ALLOW_ALL_ORIGINS", True)
    allowed = run(
        AsyncClient().options(
            "/v1/chat/completions",
            headers={
                "origin": "https://app.example",
                "access-control-request-method": "POST",
                "access-control-request-headers": "last-event-id, content-type, authorization",
            },
        )
    )
    assert allowed.status_code == 200
    assert allowed["Access-Control-Allow-Origin"] == "*"
    assert "last-event-id" in allowed["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in allowed


def test_a_foreign_host_name_is_refused_in_the_same_shape_and_in_one_line_of_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "CORS_ALLOW_ALL_ORIGINS", True)
    refused = get("/v1/models", host="evil.example", origin="https://app.example")
    error = error_of(refused, 400)
    assert error["code"] == "host_not_allowed"
    assert "Host" in error["message"]
    assert "ALLOWED_HOSTS" in error["message"]
    assert refused["X-Content-Type-Options"] == "nosniff"
    assert refused["Access-Control-Allow-Origin"] == "*"
    [record] = [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    assert record.name == "django.security.DisallowedHost"
    assert record.exc_info is None
    assert "evil.example" in record.getMessage()


@pytest.mark.parametrize("path", ["/", "/admin/", "/static/icon.svg", "/health/", "/v1/none"])
@pytest.mark.parametrize("host", ["evil.example", "10.0.0.7", "a b", "x" * 5000])
def test_every_address_but_health_refuses_a_foreign_host_name(path: str, host: str) -> None:
    assert get(path, host=host).status_code == 400
    assert Client().get(path, headers={"host": host}).status_code == 400


@pytest.mark.parametrize("host", ["10.0.0.7", "10.0.0.7:3000", "evil.example", "a b"])
def test_a_probe_may_call_the_server_by_any_name_and_over_plain_http(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(settings, "SECURE_SSL_REDIRECT", True)
    ours = get("/health", host=host)
    assert ours.status_code == 200
    assert json.loads(ours.content)["modelId"] == settings.SERVED_MODEL_NAME
    assert ours["X-Request-ID"]
    assert Client().get("/health", headers={"host": host}).json() == json.loads(ours.content)
    assert Client().get("/v1/models", headers={"host": "localhost"}).status_code == 301


def test_a_probe_may_ask_for_the_head_only() -> None:
    head = run(AsyncClient().head("/health", headers={"host": "10.0.0.7"}))
    assert head.status_code == 200
    assert head.content == b""
    assert head["X-Request-ID"]


def test_health_takes_no_other_method() -> None:
    refused = post("/health", {})
    assert error_of(refused, 405)["code"] == "method_not_allowed"


# --- What goes wrong inside ---


def test_a_database_that_is_away_is_a_503_and_a_wrong_statement_is_not() -> None:
    away = as_api_error(OperationalError("connection refused"))
    assert away is not None
    assert away.status == 503
    assert as_api_error(DataError("invalid input")) is None


def test_a_failure_of_ours_says_nothing_of_its_inside(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise DataError("column secret of /srv/secret.db")

    monkeypatch.setattr(readiness, "read_model_health", broken)
    error = error_of(post("/v1/chat/completions", HALO), 500)
    assert error["code"] == "internal_error"
    assert "secret" not in error["message"]
    assert "column secret" in caplog.text


def test_a_session_that_failed_gives_its_own_status_to_who_waits() -> None:
    body = {"messages": HALO["messages"], "session_id": "failed"}
    post("/v1/chat/completions", body | {"stream": True})
    transitions.fail("failed", readiness.model_failed_error("out of memory"))
    refused = post("/v1/chat/completions", body)
    assert error_of(refused, 503)["code"] == "model_not_loaded"
    assert refused["X-Session-ID"] == "failed"


def end_and_expire(session_id: str) -> None:
    ended = Closing.failed(readiness.model_failed_error("x")).columns()
    ChatSession.objects.filter(pk=session_id).update(**ended, expired_at=timezone.now())


def test_who_waits_for_a_stream_that_expires_meanwhile_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "HUB_POLL_SECONDS", 0.05)
    body = {"messages": HALO["messages"], "session_id": "expiring"}
    post("/v1/chat/completions", body | {"stream": True})

    async def ask() -> Any:
        waiting = asyncio.create_task(AsyncClient().post("/v1/chat/completions", body, "application/json"))
        await asyncio.sleep(0.2)
        await in_db(end_and_expire, "expiring")
        return await waiting

    assert error_of(run(ask()), 410)["code"] == "session_expired"


def test_an_answer_that_takes_too_long_is_a_504_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "ANSWER_TIMEOUT_SECONDS", 0.05)
    response = post("/v1/chat/completions", {"messages": HALO["messages"]})
    assert error_of(response, 504)["code"] == "timeout"
    assert ChatSession.objects.get(pk=response["X-Session-ID"]).state == ChatSession.State.QUEUED
    # An SDK would send it again, and begin a second generation beside this one.
    assert response["X-Should-Retry"] == "false"


def test_too_many_streams_are_refused_before_they_cost_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MAX_OPEN_STREAMS", 0)
    refused = post("/v1/chat/completions", HALO)
    assert error_of(refused, 503)["code"] == "too_many_streams"
    # It may come again: nothing was opened for it.
    assert "X-Should-Retry" not in refused
    assert not ChatSession.objects.exists()


def test_a_stream_for_which_the_room_went_meanwhile_is_not_asked_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.api.chat.check_room_for_stream", lambda caller: None)
    monkeypatch.setattr(settings, "MAX_OPEN_STREAMS", 0)
    refused = post("/v1/chat/completions", HALO)
    assert error_of(refused, 503)["code"] == "too_many_streams"
    assert ChatSession.objects.filter(pk=refused["X-Session-ID"]).exists()
    assert refused["X-Should-Retry"] == "false"


def test_a_conflict_is_not_sent_again() -> None:
    body = HALO | {"session_id": "taken"}
    post("/v1/chat/completions", body)
    refused = post("/v1/chat/completions", body | {"max_tokens": 3})
    assert error_of(refused, 409)["code"] == "session_conflict"
    assert refused["X-Should-Retry"] == "false"


@pytest.mark.parametrize(("status", "is_sent_again"), [(500, False), (502, False), (503, True), (429, True)])
def test_what_failed_is_sent_again_only_where_nothing_was_begun(status: int, is_sent_again: bool) -> None:
    body = {"messages": HALO["messages"], "session_id": "failed"}
    post("/v1/chat/completions", body | {"stream": True})
    transitions.fail("failed", ApiError("no", code="x", status=status))
    refused = post("/v1/chat/completions", {"stream": False}, **{"Last-Event-ID": "failed:0"})
    assert error_of(refused, status)["code"] == "x"
    assert ("X-Should-Retry" not in refused) is is_sent_again


def test_a_full_queue_may_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MAX_QUEUED_SESSIONS", 0)
    refused = post("/v1/chat/completions", HALO)
    assert error_of(refused, 503)["code"] == "queue_full"
    assert "X-Should-Retry" not in refused
    assert refused["Retry-After"]


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_refusal_that_no_sdk_repeats_says_nothing_of_it(method: str) -> None:
    assert "X-Should-Retry" not in Client().generic(method, "/v1/nothing")


def test_requests_wait_for_a_worker_that_comes_back_and_are_refused_when_none_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "NO_WORKER_SECONDS", 60)
    monkeypatch.setattr(readiness, "_began_at", timezone.now() - datetime.timedelta(seconds=61))
    worker("a", ModelWorker.State.READY, silent_beats=MISSED_HEARTBEATS + 1)
    assert post("/v1/chat/completions", HALO).status_code == 200
    ModelWorker.objects.update(heartbeat_at=timezone.now() - datetime.timedelta(seconds=61))
    refused = post("/v1/chat/completions", HALO)
    assert error_of(refused, 503)["code"] == "no_worker"
    assert refused["Retry-After"]
    assert "refused until one starts" in str(health()["error"])
    ModelWorker.objects.update(heartbeat_at=timezone.now())
    assert post("/v1/chat/completions", HALO).status_code == 200


def test_a_web_process_that_has_just_begun_gives_the_first_worker_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "NO_WORKER_SECONDS", 60)
    monkeypatch.setattr(readiness, "_began_at", timezone.now())
    assert post("/v1/chat/completions", HALO).status_code == 200
    monkeypatch.setattr(readiness, "_began_at", timezone.now() - datetime.timedelta(seconds=61))
    assert error_of(post("/v1/chat/completions", HALO), 503)["code"] == "no_worker"
