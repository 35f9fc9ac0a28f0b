"""Every refusal on an API path has OpenAI's shape, and says what is wrong without saying what is inside."""

from __future__ import annotations

import httpx
import pytest

from tests.live.events import QUESTION
from tests.live.stack import Stack
from tests.media_samples import image_bytes


def check_shape(response: httpx.Response, status: int) -> dict[str, str | None]:
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    assert body["error"]["code"]
    assert response.headers["x-request-id"]
    message = body["error"]["message"].replace("application/json", "").replace("and/or", "")
    if "is not served here" in message:
        return dict(body["error"])  # It lists addresses.
    for leak in ("Traceback", "/", "File "):
        assert leak not in message
    return dict(body["error"])


@pytest.mark.parametrize("path", ["/v1/none", "/v1", "/v1/chat", "/v1/sessions/x", "/models", "/api/tags"])
def test_an_unknown_path_is_a_404(http: httpx.Client, path: str) -> None:
    assert check_shape(http.get(path), 404)["code"] == "not_found"


def test_a_wrong_method_is_a_405_that_names_the_right_one(http: httpx.Client) -> None:
    refused = http.get("/v1/chat/completions")
    assert check_shape(refused, 405)["code"] == "method_not_allowed"
    assert refused.headers["allow"] == "POST"


def test_a_body_that_is_not_json_is_refused(http: httpx.Client) -> None:
    broken = http.post("/v1/chat/completions", content=b'{"messages": [', headers={"Content-Type": "application/json"})
    assert check_shape(broken, 400)["code"] == "invalid_json"


def test_a_body_that_is_not_said_to_be_json_is_a_415(http: httpx.Client) -> None:
    check_shape(http.post("/v1/chat/completions", content=b"messages=hello"), 415)


@pytest.mark.parametrize("content", [b"[]", b'"text"', b"null", b"3"])
def test_a_body_that_is_no_object_is_refused(http: httpx.Client, content: bytes) -> None:
    check_shape(http.post("/v1/chat/completions", content=content, headers={"Content-Type": "application/json"}), 400)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": 2.5}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"guidance": 1}, "guidance"),
        ({"seed": 1.5}, "seed"),
        ({"stop": ["a"] * 65}, "stop"),
        ({"stop": ""}, "stop"),
        ({"min_tokens": 99, "max_tokens": 9}, "min_tokens"),
        ({"session_id": "has spaces"}, "session_id"),
        ({"session_id": "x" * 65}, "session_id"),
        ({"stream": False, "stream_options": {"include_usage": True}}, "stream_options"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"guided_json": {"uniqueItems": True}}, "guided_json"),
        ({"logprobs": 3}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"logit_bias": {"five": 1}}, "logit_bias"),
        ({"n": 1000}, "n"),
    ],
)
def test_a_field_that_cannot_be_honoured_is_named(http: httpx.Client, fields: dict[str, object], param: str) -> None:
    refused = http.post("/v1/chat/completions", json=QUESTION | {"stream": False} | fields)
    assert check_shape(refused, 400)["param"] == param


def test_harmless_values_of_parameters_that_are_not_served_pass(http: httpx.Client) -> None:
    harmless = {"n": 1, "presence_penalty": 0, "logprobs": False, "tools": [], "response_format": {"type": "text"}}
    body = QUESTION | {"stream": False, "max_tokens": 2, "service_tier": "flex", "user": "someone"} | harmless
    assert http.post("/v1/chat/completions", json=body).status_code == 200


def test_a_body_over_the_limit_is_a_413(http: httpx.Client) -> None:
    content = b'{"messages": [{"role": "user", "content": "' + b"x" * (65 * 1024 * 1024) + b'"}]}'
    refused = http.post("/v1/chat/completions", content=content, headers={"Content-Type": "application/json"})
    assert check_shape(refused, 413)["code"] == "request_too_large"


def test_a_prompt_longer_than_the_context_is_refused_when_it_is_read(http: httpx.Client) -> None:
    body = {"messages": [{"role": "user", "content": "panjang sekali " * 4000}], "max_tokens": 4}
    assert check_shape(http.post("/v1/chat/completions", json=body), 400)["code"] == "context_length_exceeded"
    with http.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as response:
        events = response.read().decode().strip().split("\n\n")
    assert '"code":"context_length_exceeded"' in events[-1]
    assert "[DONE]" not in events[-1]


def test_a_refused_request_leaves_no_session_behind(server: Stack, http: httpx.Client, session_id: str) -> None:
    parts = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    body = {"session_id": session_id, "messages": [{"role": "user", "content": parts}]}
    error = check_shape(http.post("/v1/chat/completions", json=body), 400)
    assert error["param"] == "messages[0].content[0]"
    assert server.query("SELECT count(*) FROM sessions_app_chatsession WHERE id = ?", session_id) == [(0,)]


def test_a_foreign_host_name_is_refused_but_for_probes_and_without_noise(server: Stack, http: httpx.Client) -> None:
    sent = {"Host": "10.0.0.7", "X-Request-ID": "a-foreign-host"}
    assert http.get("/health", headers=sent).json()["ok"]
    assert http.head("/health", headers=sent).status_code == 200
    assert check_shape(http.get("/v1/models", headers=sent), 400)["code"] == "host_not_allowed"
    lines = [line for line in server.logs().splitlines() if "[a-foreign-host]" in line]
    assert len([line for line in lines if "DisallowedHost" in line]) == 1
    assert len([line for line in lines if "/v1/models" in line]) == 1


def test_browsers_of_this_machine_may_call_the_api_without_credentials(http: httpx.Client) -> None:
    page = {"Origin": "http://localhost:5173"}
    asked = {
        **page,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,last-event-id",
    }
    allowed = http.options("/v1/chat/completions", headers=asked)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == page["Origin"]
    assert "last-event-id" in allowed.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in allowed.headers
    reply = http.get("/v1/models", headers=page)
    assert "X-Session-ID" in reply.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in http.get("/admin/login/", headers=page).headers


def test_a_form_on_a_web_page_of_another_site_is_refused_before_its_card_is_read(http: httpx.Client) -> None:
    picture = {"image": ("card.png", image_bytes(), "image/png")}
    refused = http.post("/ktp-ocr/", files=picture, headers={"Origin": "https://evil.example"})
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "origin_not_allowed"
    assert "X-Session-ID" not in refused.headers
