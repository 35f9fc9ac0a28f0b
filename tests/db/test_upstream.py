"""Forwarding to servers that are not like this one: vLLM's and SGLang's manners, and those of nobody in particular."""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import Any

import pytest

from inference.backends.upstream import refused_formats
from inference.backends.upstream.call import calls_of, wire_sampling
from inference.backends.upstream.engine import UpstreamEngine
from inference.backends.upstream.target import NotReady, Resume, Target, find_target
from inference.engine.errors import EngineStopped
from inference.engine.types import Sampling
from inference.errors import ApiError
from sessions_app.deltas import TextKind
from tests.db.scripted_upstream import (
    DEADLINE_SECONDS,
    DONE,
    KEY,
    SAMPLING,
    SILENCE,
    Scripted,
    chunk,
    collected,
    said,
    session_of,
    text_of,
)
from tests.db.session_states import png

pytestmark = pytest.mark.django_db


def test_the_request_has_openais_and_vllms_names(upstream: Scripted, start_engine: Any) -> None:
    upstream.streams(chunk("Baik."), chunk(finish="stop"), DONE)
    collected(start_engine("prefix").submit(session_of()))
    assert upstream.requests == [
        {
            "model": "the/model",
            "messages": [{"role": "user", "content": "Apa kabar?"}],
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            "max_tokens": 10,
            "temperature": 0.0,
            "top_p": 1.0,
            "seed": 5,
            "stop": ["END"],
            "min_tokens": 4,
        }
    ]
    assert upstream.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert upstream.headers[0]["X-Request-ID"] == "req-1"


def test_a_sampling_field_goes_by_its_name_when_it_asks_for_something() -> None:
    sampling = Sampling.from_json(SAMPLING)
    assert wire_sampling(dataclasses.replace(sampling, top_k=20)) == wire_sampling(sampling) | {"top_k": 20}


def test_what_a_request_says_of_thoughts_goes_by_the_names_of_vllm() -> None:
    sampling = Sampling.from_json(SAMPLING)
    asked = dataclasses.replace(sampling, enable_thinking=False, reasoning_effort="none")
    switch = {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "none"}
    assert wire_sampling(asked) == wire_sampling(sampling) | switch
    # Without a budget the upstream counts both by max_tokens; with one it has that beside the answer.
    assert wire_sampling(dataclasses.replace(sampling, max_reasoning_tokens=2048)) == wire_sampling(sampling)
    budget = dataclasses.replace(sampling, max_reasoning_tokens=50, thinking_token_budget=50)
    assert wire_sampling(budget) == wire_sampling(sampling) | {"max_tokens": 60, "thinking_token_budget": 50}


def test_an_answer_that_goes_on_from_a_message_is_asked_for_so_and_continued_in_it(
    upstream: Scripted, start_engine: Any
) -> None:
    upstream.streams(chunk(" kabar?", usage=(7, 2)), None)
    upstream.streams(chunk(" Baik.", usage=(9, 1)), chunk(finish="stop", usage=(9, 1)), DONE)
    session = session_of()
    begun = [{"role": "user", "content": "Halo"}, {"role": "assistant", "content": [{"type": "text", "text": "Apa"}]}]
    session.request = session.request | {"messages": begun, "ending": "inside"}
    deltas, _ = collected(start_engine("prefix").submit(session))
    assert text_of(deltas) == " kabar? Baik."
    first, second = upstream.requests
    for body, answer in ((first, "Apa"), (second, "Apa kabar?")):
        assert body["messages"] == [begun[0], {"role": "assistant", "content": answer}]
        assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)


def test_media_are_sent_as_the_bytes_that_came(upstream: Scripted, start_engine: Any) -> None:
    picture = png()
    content = [{"type": "text", "text": "Apa ini?"}, {"type": "image"}]
    upstream.streams(chunk("Biru."), chunk(finish="stop"), DONE)
    collected(start_engine("none").submit(session_of(content=content, media=[picture])))
    url = f"data:image/png;base64,{base64.b64encode(picture.data).decode()}"
    assert upstream.requests[0]["messages"] == [
        {
            "role": "user",
            "content": [{"type": "text", "text": "Apa ini?"}, {"type": "image_url", "image_url": {"url": url}}],
        }
    ]


def test_text_reasoning_and_usage_come_out_as_from_an_engine(upstream: Scripted, start_engine: Any) -> None:
    upstream.streams(
        chunk(reasoning_content="Hm."), chunk("Ba"), chunk("ik."), chunk(finish="length", usage=(7, 9), cached=5), DONE
    )
    deltas, finish = collected(start_engine("none").submit(session_of()))
    assert ([delta.reasoning for delta in deltas], text_of(deltas)) == (["Hm.", "", ""], "Baik.")
    assert all(delta.token_ids for delta in deltas)
    assert (finish.reason, finish.prompt_tokens, finish.completion_tokens) == ("length", 7, 9)
    assert finish.cached_tokens == 5


def test_a_busy_upstream_is_asked_again(upstream: Scripted, start_engine: Any) -> None:
    upstream.refuses(429, **{"Retry-After": "0"})
    upstream.refuses(503)
    upstream.streams(chunk("Baik."), chunk(finish="stop"), DONE)
    deltas, _ = collected(start_engine("none").submit(session_of()))
    assert text_of(deltas) == "Baik."


def test_one_that_stays_busy_fails_the_session_with_a_503(upstream: Scripted, start_engine: Any, settings: Any) -> None:
    settings.UPSTREAM_RETRY_SECONDS = 0.0
    upstream.refuses(429)
    with pytest.raises(ApiError, match="has too many requests") as refusal:
        collected(start_engine("none").submit(session_of()))
    assert (refusal.value.status, refusal.value.code) == (503, "upstream_unavailable")


def test_a_cut_stream_goes_on_behind_what_was_said(upstream: Scripted, start_engine: Any) -> None:
    upstream.streams(chunk("Ba", usage=(7, 2)), chunk("ik ", usage=(7, 3)), None)
    upstream.streams(chunk("saja", usage=(10, 1)), chunk(finish="stop", usage=(10, 2)), DONE)
    deltas, finish = collected(start_engine("prefix").submit(session_of()))
    assert text_of(deltas) == "Baik saja"
    second = upstream.requests[1]
    assert second["messages"][-1] == {"role": "assistant", "content": "Baik "}
    assert (second["continue_final_message"], second["add_generation_prompt"]) == (True, False)
    # Three of the ten tokens are used up, and of the four at least one is still to come.
    assert (second["max_tokens"], second["min_tokens"]) == (7, 1)
    assert (finish.prompt_tokens, finish.completion_tokens) == (7, 5)


def test_an_earlier_workers_answer_goes_on_behind_what_is_committed(upstream: Scripted, start_engine: Any) -> None:
    upstream.streams(chunk(" saja", usage=(9, 1)), chunk(finish="stop", usage=(9, 1)), DONE)
    deltas, finish = collected(start_engine("prefix").submit(session_of(said("Ba"), said("ik", 2))))
    assert text_of(deltas) == " saja"
    assert upstream.requests[0]["messages"][-1] == {"role": "assistant", "content": "Baik"}
    assert (upstream.requests[0]["max_tokens"], finish.completion_tokens) == (7, 4)


def test_an_answer_that_has_its_length_already_only_ends(start_engine: Any) -> None:
    deltas, finish = collected(start_engine("prefix").submit(session_of(said("Baik", 10))))
    assert (deltas, finish.reason, finish.completion_tokens) == ([], "length", 10)


@pytest.mark.parametrize(("resume", "kind"), [("none", "text"), ("prefix", "reasoning")])
def test_an_answer_that_cannot_be_continued_fails_and_is_not_spliced(
    start_engine: Any, resume: Resume, kind: TextKind
) -> None:
    with pytest.raises(ApiError, match="Send the request again under a new session_id") as refusal:
        collected(start_engine(resume).submit(session_of(said("Baik", kind=kind))))
    assert refusal.value.code == "upstream_cannot_resume"


def test_a_cut_before_the_first_word_is_tried_again_anywhere(upstream: Scripted, start_engine: Any) -> None:
    upstream.streams(None)
    upstream.streams(chunk("Baik."), chunk(finish="stop"), DONE)
    deltas, _ = collected(start_engine("none").submit(session_of()))
    assert text_of(deltas) == "Baik."


def test_a_stream_that_repeats_itself_is_delivered_once_and_compared(upstream: Scripted, start_engine: Any) -> None:
    upstream.streams(chunk("Baik "), chunk("sa"), chunk("ja"), chunk(finish="stop"), DONE)
    upstream.streams(chunk("Bagus "), None)
    engine = start_engine("session")
    session = session_of(said("Baik s"))
    deltas, _ = collected(engine.submit(session))
    assert text_of(deltas) == "aja"
    with pytest.raises(ApiError, match="now differs from the part that was already sent"):
        collected(engine.submit(session))
    first, second = (request["session_id"] for request in upstream.requests)
    assert first == second
    assert session.pk not in first


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (400, {"message": "too long", "param": "messages", "code": 400}, (400, "invalid_request", "too long")),
        (401, {"message": f"wrong key {KEY}"}, (502, "upstream_refused", "refuses this server's key")),
        (404, {"message": "no model"}, (502, "upstream_failed", "HTTP 404")),
        (500, {"message": "a stack of ours"}, (502, "upstream_failed", "HTTP 500")),
        (400, {"message": f"what is {KEY}"}, (400, "invalid_request", r"what is \*\*\*")),
    ],
)
def test_refusals_become_errors_of_this_api(
    upstream: Scripted, start_engine: Any, status: int, error: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    upstream.refuses(status, error)
    with pytest.raises(ApiError, match=expected[2]) as refusal:
        collected(start_engine("none").submit(session_of()))
    assert (refusal.value.status, refusal.value.code) == expected[:2]
    assert KEY not in str(refusal.value)
    assert "stack of ours" not in str(refusal.value)


def test_an_error_within_the_stream_ends_it(upstream: Scripted, start_engine: Any) -> None:
    upstream.streams(chunk("Ba"), f"data: {json.dumps({'error': {'message': 'inside', 'code': 500}})}\n\n")
    [handle] = start_engine("prefix").submit(session_of())
    assert next(handle).text == "Ba"
    with pytest.raises(ApiError, match="failed while it answered") as refusal:
        next(handle)
    assert "inside" not in str(refusal.value)


def test_events_that_are_no_json_are_said_to_be_so(upstream: Scripted, start_engine: Any) -> None:
    upstream.streams("data: {broken\n\n")
    with pytest.raises(ApiError, match="not JSON"):
        collected(start_engine("none").submit(session_of()))


def test_a_stopped_engine_ends_its_streams_and_takes_no_more(upstream: Scripted, start_engine: Any) -> None:
    engine = start_engine("prefix")
    upstream.streams(chunk("Ba"), chunk("ik"), SILENCE)
    [handle] = engine.submit(session_of())
    next(handle)
    assert engine.stats().running == 1
    assert engine.stop(DEADLINE_SECONDS)
    with pytest.raises(EngineStopped):
        collected([handle])
    assert engine.stats().running == 0
    with pytest.raises(EngineStopped):
        engine.submit(session_of())


@pytest.mark.parametrize(
    ("owner", "resume", "reasoning"),
    [
        ("vllm", "prefix", ("reasoning",)),
        ("sglang", "prefix", ("reasoning_content",)),
        ("sambung", "session", ("reasoning_content",)),
        ("openai", "none", ("reasoning_content", "reasoning")),
    ],
)
def test_how_it_resumes_and_names_reasoning_follows_from_what_it_calls_itself(
    upstream: Scripted, start_engine: Any, owner: str, resume: Resume, reasoning: tuple[str, ...]
) -> None:
    upstream.replies.append((200, {}, [json.dumps({"data": [{"id": "m", "owned_by": owner}]})]))
    engine = start_engine("none")
    assert looked_at(engine) == Target("m", resume, reasoning)


def test_the_setting_goes_before_what_it_calls_itself(upstream: Scripted, start_engine: Any, settings: Any) -> None:
    settings.UPSTREAM_RESUME = "prefix"
    upstream.replies.append((200, {}, [json.dumps({"data": [{"id": "m", "owned_by": "gateway"}]})]))
    assert looked_at(start_engine("none")) == Target("m", "prefix")


@pytest.mark.parametrize(
    ("status", "body", "for_good"), [(401, "{}", True), (404, "", True), (503, "", False), (200, "<html>", True)]
)
def test_what_no_waiting_mends_is_told_apart(
    upstream: Scripted, start_engine: Any, status: int, body: str, for_good: bool
) -> None:
    upstream.replies.append((status, {}, [body]))
    with pytest.raises(NotReady) as refusal:
        looked_at(start_engine("none"))
    assert refusal.value.for_good is for_good


def looked_at(engine: UpstreamEngine) -> Target:
    found: list[Target] = []

    async def look() -> None:
        found.append(await find_target(engine.client))

    engine.run(look()).result(DEADLINE_SECONDS)
    return found[0]


def test_two_sessions_never_share_an_upstream_session() -> None:
    target = Target("m", "session")
    first, second = (calls_of(session_of(), target)[0].upstream_id for _ in range(2))
    assert first != second


FORM = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": {}}}}


def test_the_form_of_the_answer_is_passed_on_as_it_came(upstream: Scripted, start_engine: Any) -> None:
    upstream.streams(chunk("{}"), chunk(finish="stop"), DONE)
    collected(start_engine("prefix").submit(session_of(wire_format=FORM)))
    assert upstream.requests[0]["response_format"] == FORM["response_format"]


def test_a_form_that_the_upstream_refuses_is_refused_unless_it_was_only_preferred(
    upstream: Scripted, start_engine: Any
) -> None:
    refused: Any = (400, {"Content-Type": "application/json"}, ['{"error": {"message": "no such field"}}'])
    upstream.replies.append(refused)
    with pytest.raises(ApiError, match="no such field"):
        collected(start_engine("prefix").submit(session_of(wire_format=FORM)))
    upstream.replies.append(refused)
    upstream.streams(chunk("{}"), chunk(finish="stop"), DONE)
    preferred = session_of(wire_format=FORM, wire_format_is_optional=True)
    assert text_of(collected(start_engine("prefix").submit(preferred))[0]) == "{}"
    assert ["response_format" in request for request in upstream.requests] == [True, True, False]


def test_a_form_that_was_refused_is_not_asked_for_again_for_a_while(
    upstream: Scripted, start_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start_engine("prefix")

    def forms_of_next_answer(*refusals: str) -> list[bool]:
        asked_before = len(upstream.requests)
        for message in refusals:
            upstream.refuses(400, {"message": message})
        upstream.streams(chunk("{}"), chunk(finish="stop"), DONE)
        collected(engine.submit(session_of(wire_format=FORM, wire_format_is_optional=True)))
        return ["response_format" in request for request in upstream.requests[asked_before:]]

    assert forms_of_next_answer("no such field") == [True, False]
    assert forms_of_next_answer() == [False]
    monkeypatch.setattr(refused_formats, "FORGET_SECONDS", 0.0)
    assert forms_of_next_answer() == [True]


@pytest.mark.parametrize("is_refused", [False, True])
def test_a_takeover_repeats_the_request_of_a_session_that_the_upstream_keeps(
    upstream: Scripted, start_engine: Any, is_refused: bool
) -> None:
    engine = start_engine("session")
    engine._refused_formats.add(engine.target, FORM)
    if is_refused:
        # The attempt before was refused too, and went on without.
        upstream.refuses(400, {"message": "no such field"})
    upstream.streams(chunk("{"), chunk("}"), chunk(finish="stop"), DONE)
    begun = session_of(said("{"), wire_format=FORM, wire_format_is_optional=True)
    assert text_of(collected(engine.submit(begun))[0]) == "}"
    assert ["response_format" in request for request in upstream.requests] == [True, False][: 1 + is_refused]


def test_a_second_attempt_repeats_the_request_before_anything_is_committed(
    upstream: Scripted, start_engine: Any
) -> None:
    engine = start_engine("session")
    engine._refused_formats.add(engine.target, FORM)
    for attempt, has_form in [(1, False), (2, True)]:
        upstream.streams(chunk("{}"), chunk(finish="stop"), DONE)
        session = session_of(wire_format=FORM, wire_format_is_optional=True)
        session.attempt = attempt
        collected(engine.submit(session))
        assert ("response_format" in upstream.requests[-1]) is has_form


def test_a_request_that_is_refused_without_its_form_too_says_nothing_about_the_form(
    upstream: Scripted, start_engine: Any
) -> None:
    engine = start_engine("prefix")
    for _ in range(2):
        upstream.refuses(400, {"message": "bad picture"})
    with pytest.raises(ApiError, match="bad picture"):
        collected(engine.submit(session_of(wire_format=FORM, wire_format_is_optional=True)))
    upstream.streams(chunk("{}"), chunk(finish="stop"), DONE)
    collected(engine.submit(session_of(wire_format=FORM, wire_format_is_optional=True)))
    assert ["response_format" in request for request in upstream.requests] == [True, False, True]


def test_an_answer_with_a_form_is_not_continued_in_the_middle_unless_it_was_only_preferred(
    upstream: Scripted, start_engine: Any
) -> None:
    upstream.streams(chunk('{"a": '), None)
    with pytest.raises(ApiError, match="form"):
        collected(start_engine("prefix").submit(session_of(wire_format=FORM)))
    upstream.streams(chunk('{"a": '), None)
    upstream.streams(chunk("1}"), chunk(finish="stop"), DONE)
    preferred = session_of(wire_format=FORM, wire_format_is_optional=True)
    assert text_of(collected(start_engine("prefix").submit(preferred))[0]) == '{"a": 1}'
    assert "response_format" not in upstream.requests[-1]
