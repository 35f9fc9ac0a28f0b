"""Clients of OpenAI's API, unmodified, against a live server.

Each is a process with an environment of its own. What it is asked for is in ``scripts/``, what it cannot do in
``clients.py``; docs/compatibility.md has the table.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from tests.contract.clients import CASES, CLIENTS, OWN_CASES
from tests.contract.conftest import KEYS, told
from tests.contract.running import ClientProcess
from tests.live.events import endless_question, events_of
from tests.live.stack import EmbeddedStack
from tests.waiting import wait_for

ARGUMENTS = {
    "weather": {"type": "object", "properties": {"city": {"enum": ["Solo", "Bogor"]}}, "required": ["city"]},
    "time": {"type": "object", "properties": {"zone": {"enum": ["WIB", "WITA", "WIT"]}}, "required": ["zone"]},
}
STREET = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 15},
        "number": {"type": "integer", "minimum": 1, "maximum": 300},
    },
    "required": ["name", "number"],
    "additionalProperties": False,
}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 15},
        "kind": {"enum": ["person", "company"]},
        "streets": {"type": "array", "items": STREET, "minItems": 1, "maxItems": 2},
    },
    "required": ["name", "kind", "streets"],
    "additionalProperties": False,
}


def each_client_that_can(case: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("client", [one.name for one in CLIENTS if case in one.cases], indirect=True)


def check_calls(calls: list[Any]) -> None:
    for call in calls:
        jsonschema.validate(call["arguments"], ARGUMENTS[call["name"]] | {"additionalProperties": False})


def test_the_table_names_cases_that_there_are() -> None:
    for client in CLIENTS:
        assert set(client.cannot) <= CASES.keys()
        assert set(client.also) <= OWN_CASES.keys()


@each_client_that_can("chat")
def test_a_chat_is_answered_with_its_token_counts(client: ClientProcess, server: EmbeddedStack) -> None:
    answer = client.do("chat", told(server))
    assert answer["text"]
    prompt_tokens, completion_tokens = answer["usage"]
    assert (prompt_tokens > 10, completion_tokens) == (True, 20)
    assert answer["finish_reason"] in ("length", None)  # some clients do not show it


@each_client_that_can("stream")
def test_a_stream_says_what_the_whole_answer_says(client: ClientProcess, server: EmbeddedStack) -> None:
    answer = client.do("stream", told(server))
    assert len(answer["pieces"]) > 1
    assert "".join(answer["pieces"]) == answer["whole"]
    assert answer["usage"][1] == 20


@each_client_that_can("tool_loop")
def test_a_function_that_has_to_be_called_is_called_and_its_result_answered(
    client: ClientProcess, server: EmbeddedStack
) -> None:
    done = client.do("tool_loop", told(server))
    assert [call["name"] for call in done["calls"]] == ["weather"]
    check_calls(done["calls"])
    assert done["answer"]


@each_client_that_can("stream_call")
def test_a_call_is_streamed(client: ClientProcess, server: EmbeddedStack) -> None:
    done = client.do("stream_call", told(server))
    assert done["calls"]
    check_calls(done["calls"])


@each_client_that_can("parallel_calls")
def test_an_answer_may_hold_several_calls(client: ClientProcess, server: EmbeddedStack) -> None:
    done = client.do("parallel_calls", told(server))
    assert len(done["calls"]) > 1
    check_calls(done["calls"])
    assert done["answer"]


@each_client_that_can("forced_call")
def test_a_call_becomes_an_object(client: ClientProcess, server: EmbeddedStack) -> None:
    [call] = client.do("forced_call", told(server))["calls"]
    jsonschema.validate(call["arguments"], ARGUMENTS.get(call["name"], PERSON))


@each_client_that_can("offered_tool")
def test_a_function_that_is_offered_does_not_hinder_the_answer(client: ClientProcess, server: EmbeddedStack) -> None:
    assert client.do("offered_tool", told(server))["text"]


@each_client_that_can("parse")
def test_an_answer_is_parsed_by_a_nested_schema(client: ClientProcess, server: EmbeddedStack) -> None:
    jsonschema.validate(client.do("parse", told(server)), PERSON)


@each_client_that_can("stream_parse")
def test_an_answer_is_parsed_while_it_grows(client: ClientProcess, server: EmbeddedStack) -> None:
    done = client.do("stream_parse", told(server))
    assert done["partial"] > 0
    jsonschema.validate(done["value"], PERSON)


@each_client_that_can("logprobs")
def test_log_probabilities_are_those_of_the_text(client: ClientProcess, server: EmbeddedStack) -> None:
    done = client.do("logprobs", told(server))
    assert "".join(done["tokens"]) == done["text"]
    assert all(logprob <= 0 for logprob in done["logprobs"])
    assert done["tops"] == [2] * 10


@each_client_that_can("thinking")
def test_thinking_is_on_off_and_bounded(client: ClientProcess, strict_server: EmbeddedStack) -> None:
    done = client.do("thinking", told(strict_server))
    # The marker that ends a thought counts. All of the server's eight tokens, none, and the request's five.
    expected = {"on": 9, "off": 0, "budget": 6}
    if "budget" in client.client.hides:
        del expected["budget"]
    assert {name: answer["reasoning_tokens"] for name, answer in done.items()} == expected
    for answer in done.values():
        assert answer["text"]
        if "reasoning" not in client.client.hides:
            assert bool(answer["reasoning"]) == (answer["reasoning_tokens"] > 0)


LAST_MESSAGES = """
import django, json
django.setup()
from sessions_app.models import ChatSession
print(json.dumps(ChatSession.objects.latest("created_at").request["messages"]))
"""


@each_client_that_can("thoughtful_loop")
def test_a_model_that_thinks_gets_the_thought_before_a_call_back(
    client: ClientProcess, strict_server: EmbeddedStack
) -> None:
    done = client.do("thoughtful_loop", told(strict_server))
    check_calls(done["calls"])
    question, called, result = json.loads(strict_server.run_python(LAST_MESSAGES))
    assert [message["role"] for message in (question, called, result)] == ["user", "assistant", "tool"]
    assert called["reasoning_content"] == done["reasoning"] != ""


@each_client_that_can("vision")
def test_an_image_is_seen(client: ClientProcess, server: EmbeddedStack) -> None:
    done = client.do("vision", told(server))
    assert done["red"] and done["blue"]
    assert done["red"] != done["blue"]


@each_client_that_can("errors")
def test_errors_are_the_clients_own_and_say_what_is_wrong(client: ClientProcess, strict_server: EmbeddedStack) -> None:
    done = client.do("errors", told(strict_server))
    kinds = client.client.errors
    for name, status, words in (
        ("unknown_model", 404, "gpt-none is not served"),
        ("bad_value", 400, "Input should be"),
        ("wrong_key", 401, "API key"),
    ):
        assert done[name]["type"] == getattr(kinds, name)
        assert done[name]["status"] == (status if kinds.with_status else None)
        assert words in done[name]["message"]


@contextlib.contextmanager
def streams_held(server: EmbeddedStack, keys: list[str]) -> Iterator[None]:
    """One stream is open for each key."""
    # An iterator that is collected closes its stream.
    reading = []
    with contextlib.ExitStack() as held:
        for key in keys:
            http = held.enter_context(server.client(headers={"Authorization": f"Bearer {key}"}))
            response = held.enter_context(http.stream("POST", "/v1/chat/completions", json=endless_question()))
            reading.append(events_of(response))
            next(reading[-1])
            held.callback(http.post, f"/v1/cancel/{response.headers['X-Session-ID']}")
        yield


@each_client_that_can("retry")
@pytest.mark.parametrize(("status", "keys"), [(429, KEYS[:1]), (503, KEYS[1:])], ids=["429", "503"])
def test_what_was_refused_for_now_is_tried_again_and_generated_once(
    client: ClientProcess, strict_server: EmbeddedStack, status: int, keys: list[str]
) -> None:
    def refusals() -> int:
        return strict_server.logs().count(f"POST /v1/chat/completions {status}")

    def generations() -> int:
        return int(strict_server.query("SELECT count(*) FROM sessions_app_chatsession")[0][0])

    refused_before, generated_before = refusals(), generations()
    with streams_held(strict_server, keys):
        client.begin("retry", told(strict_server))
        wait_for(lambda: refusals() > refused_before)
    assert "".join(client.result()["pieces"])
    assert generations() == generated_before + len(keys) + 1


@each_client_that_can("resume")
def test_a_stream_goes_on_after_the_last_event_that_was_seen(client: ClientProcess, server: EmbeddedStack) -> None:
    asked = told(server)
    done = client.do("resume", asked)
    assert done["before"]
    assert "".join(done["before"] + done["rest"]) == done["whole"]
    resumed = "SELECT count(*) FROM sessions_app_sessionevent WHERE session_id = ? AND kind = 'resumed'"
    wait_for(lambda: server.query(resumed, asked["session_id"]) == [(1,)])


@each_client_that_can("router")
def test_a_router_serves_on_after_a_request_was_refused(client: ClientProcess, server: EmbeddedStack) -> None:
    done = client.do("router", told(server))
    assert done["bad_value"]["status"] == 400
    assert done["text"]
