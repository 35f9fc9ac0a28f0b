"""``/docs`` and ``/openapi.json``: everything that a caller may send is there, and the examples work."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from ninja import Schema

from inference.api.examples import CHAT_EXAMPLES
from inference.api.schemas import ChatCompletionRequest
from inference.media.images import decode_image
from inference.media.limits import media_limits
from inference.media.parts import parse_messages
from inference.media.videos import sample_video
from ocr.api.replies import BatchOut, KtpOut, PendingOut


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    body: dict[str, Any] = Client().get("/openapi.json").json()
    return body


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def fields_of(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema["$ref"].rpartition("/")[2]
    return dict(document["components"]["schemas"][name]["properties"])


def test_every_operation_has_an_id_of_its_own(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for operation in operations(document).values()]
    assert len(set(ids)) == len(ids)
    assert set(operations(document)) == {
        "POST /v1/chat/completions",
        "GET /v1/sessions/{session_id}/events",
        "POST /v1/cancel/{session_id}",
        "GET /v1/models",
        "GET /v1/models/{model_id}",
        "GET /health",
        "POST /ktp-ocr/",
        "GET /ktp-ocr/{reading_id}",
        "GET /ktp-ocr/batches/{batch_id}",
        "DELETE /ktp-ocr/{reading_id}",
    }


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    names = re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document))
    assert set(names) <= set(document["components"]["schemas"])


@pytest.mark.parametrize("operation", ["POST /v1/chat/completions", "GET /v1/sessions/{session_id}/events"])
def test_a_stream_and_its_cursor_are_described(document: dict[str, Any], operation: str) -> None:
    described = operations(document)[operation]
    places = {(parameter["in"], parameter["name"]): parameter for parameter in described["parameters"]}
    for place in (("header", "Last-Event-ID"), ("query", "last_event_id")):
        assert places[place]["description"]
        assert not places[place]["required"]
    assert described["responses"]["200"]["content"]["text/event-stream"]["example"].endswith("[DONE]\n\n")
    assert "204" in described["responses"]


def test_the_whole_answer_is_described(document: dict[str, Any]) -> None:
    answer = operations(document)["POST /v1/chat/completions"]["responses"]["200"]["content"]["application/json"]
    assert {"id", "choices", "usage", "session_id"} <= set(fields_of(document, answer["schema"]))


def test_every_field_of_a_chat_request_is_described(document: dict[str, Any]) -> None:
    body = operations(document)["POST /v1/chat/completions"]["requestBody"]["content"]["application/json"]["schema"]
    fields = fields_of(document, body)
    assert set(fields) == set(ChatCompletionRequest.model_fields)
    assert [name for name, field in fields.items() if not field.get("description")] == []


@pytest.mark.parametrize("name", [name for name in CHAT_EXAMPLES if name != "resume"])
def test_every_example_is_a_request_that_this_server_takes(name: str) -> None:
    payload = ChatCompletionRequest.model_validate(CHAT_EXAMPLES[name]["value"])
    payload.check()
    assert payload.messages
    conversation = parse_messages([message.model_dump(exclude_unset=True) for message in payload.messages])
    for source in conversation.sources:
        data = base64.b64decode(source.address.partition(",")[2])
        if source.kind == "image":
            assert decode_image(data, media_limits(), None).size == (64, 64)
        else:
            assert len(sample_video(data, media_limits(), None).frames) == 2


@pytest.mark.parametrize("schema", [KtpOut, PendingOut, BatchOut])
def test_every_example_of_a_card_is_such_a_reply(document: dict[str, Any], schema: type[Schema]) -> None:
    example = document["components"]["schemas"][schema.__name__]["example"]
    assert set(schema.model_validate(example).model_dump()) == set(example)


def test_all_but_health_may_be_authorized(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"
    open_to_all = [name for name, operation in operations(document).items() if "security" not in operation]
    assert open_to_all == ["GET /health"]


def test_the_pages_need_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "API_KEYS", ["right"])
    assert Client().get("/docs").status_code == 200
    assert Client().get("/openapi.json").status_code == 200
