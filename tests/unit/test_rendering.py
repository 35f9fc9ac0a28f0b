"""The neutral log as OpenAI's chunks: every kind of delta, and nothing but the session and the chunk in it."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from inference.api import replies
from inference.api.rendering import DONE, KEPT_CHUNKS, ChunkRenderer, call_id, render_completion, renderer_of
from sessions_app.answer import Answer, Choice
from sessions_app.deltas import StoredDelta, StoredTokenLogprob
from sessions_app.models import ChatSession
from sessions_app.wakeups import StreamChunk

CREATED = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
USAGE: StoredDelta = {
    "type": "usage",
    "prompt_tokens": 7,
    "completion_tokens": 5,
    "reasoning_tokens": 2,
    "cached_tokens": 4,
}
EVERY_DELTA: list[StoredDelta] = [
    {"type": "start"},
    {"type": "reasoning", "text": "hm"},
    {"type": "text", "text": "ya"},
    {"type": "finish", "reason": "stop"},
    USAGE,
    {"type": "end"},
]
TOLD: list[StoredTokenLogprob] = [
    {
        "token": "y",
        "bytes": [121],
        "logprob": -0.5,
        "top": [
            {"token": "y", "bytes": [121], "logprob": -0.5},
            {"token": "<|im_end|>", "bytes": None, "logprob": -1.5},
        ],
    },
    {"token": "a", "bytes": [97], "logprob": -9999.0, "top": []},
]


def a_session(choices: int = 1) -> ChatSession:
    request = {"messages": [], "choices": choices} if choices > 1 else {"messages": []}
    return ChatSession(id="sess_x", model="tiny", created_at=CREATED, request=request)


def rendered(delta: StoredDelta, *, include_usage: bool = False, choices: int = 1) -> str | None:
    return ChunkRenderer(a_session(choices), include_usage=include_usage)(StreamChunk(3, delta))


def chunk_of(delta: StoredDelta, *, include_usage: bool = False) -> dict[str, Any]:
    data = rendered(delta, include_usage=include_usage)
    assert data is not None
    chunk: dict[str, Any] = json.loads(data)
    ChatCompletionChunk.model_validate(chunk, strict=True)
    return chunk


def choice_of(delta: StoredDelta) -> dict[str, Any]:
    [choice] = chunk_of(delta)["choices"]
    assert choice["index"] == 0
    return dict(choice)


def test_every_chunk_names_the_session_the_model_and_when_it_was_asked() -> None:
    for delta in EVERY_DELTA[:4]:
        chunk = chunk_of(delta)
        assert chunk["id"] == "chatcmpl-sess_x"
        assert chunk["object"] == "chat.completion.chunk"
        assert chunk["created"] == int(CREATED.timestamp())
        assert chunk["model"] == "tiny"


def test_the_start_gives_the_role() -> None:
    choice = choice_of({"type": "start"})
    assert choice["delta"] == {"role": "assistant", "content": ""}
    assert choice["finish_reason"] is None


def test_text_is_content() -> None:
    assert choice_of({"type": "text", "text": "Halo\n"})["delta"] == {"content": "Halo\n"}


def test_reasoning_stands_under_both_names_and_is_no_content() -> None:
    assert choice_of({"type": "reasoning", "text": "hm"})["delta"] == {"reasoning_content": "hm", "reasoning": "hm"}


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_the_finish_gives_its_reason_and_no_content(reason: str) -> None:
    choice = choice_of({"type": "finish", "reason": reason})
    assert choice["delta"] == {}
    assert choice["finish_reason"] == reason
    assert "session_state" not in chunk_of({"type": "finish", "reason": reason})


def test_a_cancelled_answer_stops_for_openai_and_says_so_beside_it() -> None:
    cancelled: StoredDelta = {"type": "finish", "reason": "cancelled"}
    assert choice_of(cancelled)["finish_reason"] == "stop"
    assert chunk_of(cancelled)["session_state"] == "cancelled"


def test_usage_is_shown_to_those_who_asked() -> None:
    chunk = chunk_of(USAGE, include_usage=True)
    assert chunk["choices"] == []
    assert chunk["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    assert rendered(USAGE) is None


def test_a_message_that_is_echoed_begins_the_answer_whole_and_streamed() -> None:
    session = a_session()
    begun = {"role": "assistant", "content": [{"type": "text", "text": "Apa"}, {"type": "text", "text": " kabar"}]}
    session.request = {"messages": [{"role": "user", "content": []}, begun], "sampling": {}, "echo": True}
    answer = Answer({0: Choice("?")}, finish_reason="stop")
    assert render_completion(session, answer)["choices"][0]["message"]["content"] == "Apa kabar?"
    render = ChunkRenderer(session, include_usage=False)
    first = json.loads(render(StreamChunk(0, {"type": "start"})) or "")
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "Apa kabar"}


def test_usage_of_an_older_version_has_no_cached_tokens() -> None:
    older: StoredDelta = {"type": "usage", "prompt_tokens": 7, "completion_tokens": 5, "reasoning_tokens": 2}
    assert chunk_of(older, include_usage=True)["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    answer = Answer()
    answer.add([(1, older)])
    assert render_completion(a_session(), answer)["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}


def test_the_whole_answer_has_the_usage_of_the_stream() -> None:
    answer = Answer()
    answer.add([(1, USAGE)])
    assert render_completion(a_session(), answer)["usage"] == chunk_of(USAGE, include_usage=True)["usage"]


def test_with_usage_asked_for_the_other_chunks_have_it_as_null() -> None:
    for delta in EVERY_DELTA[:4]:
        assert chunk_of(delta, include_usage=True)["usage"] is None
        assert "usage" not in chunk_of(delta)


def test_the_end_is_done() -> None:
    assert rendered({"type": "end"}) == DONE


def test_an_error_is_the_error_object_alone() -> None:
    error = {"message": "lost", "type": "server_error", "param": None, "code": "worker_lost"}
    data = rendered({"type": "error", "error": error, "status": 500})
    assert data is not None
    assert json.loads(data) == {"error": error}
    # As PostgreSQL gives it back, to who resumes.
    again = dict(sorted(error.items(), key=lambda member: len(member[0])))
    assert rendered({"type": "error", "error": again, "status": 500}) == data


def test_a_delta_of_a_later_version_is_not_shown() -> None:
    later: Any = {"type": "something new"}
    assert rendered(later) is None


@pytest.mark.parametrize("text", ["a\nb\rc", "\x85", "\u2028\u2029", "👋🏽", "\x0b\x0c\x1c\x1d\x1e\x00"])
def test_data_is_one_line_for_every_idea_of_a_line(text: str) -> None:
    data = rendered({"type": "text", "text": text})
    assert data is not None
    assert len(data.splitlines()) == 1
    assert json.loads(data)["choices"][0]["delta"]["content"] == text


@pytest.mark.parametrize("kind", ["text", "reasoning"])
@pytest.mark.parametrize("model", ["tiny", "", '""', '"content":""'])
@pytest.mark.parametrize("text", ["ya", "", '""', "\u2028"])
def test_a_chunk_of_the_first_choice_is_encoded_as_any_other(kind: Any, model: str, text: str) -> None:
    session = a_session()
    session.model = model
    render = ChunkRenderer(session, include_usage=True)
    said = {"type": kind, "text": text}
    # With a number the whole event is encoded, without one only the text.
    assert render(StreamChunk(3, said)) == render(StreamChunk(3, {**said, "choice": 0}))  # type: ignore[arg-type]


def test_rendering_again_gives_the_same_bytes() -> None:
    for delta in EVERY_DELTA:
        assert rendered(delta, include_usage=True) == rendered(dict(delta), include_usage=True)  # type: ignore[arg-type]


def answer(**fields: Any) -> Answer:
    built = Answer(**fields)
    built.add(enumerate(EVERY_DELTA))
    return built


def test_a_whole_answer_is_a_chat_completion() -> None:
    body = render_completion(a_session(), answer())
    ChatCompletion.model_validate(body, strict=True)
    [choice] = body["choices"]
    assert choice["message"]["content"] == "ya"
    assert choice["message"]["reasoning_content"] == choice["message"]["reasoning"] == "hm"
    assert choice["finish_reason"] == "stop"
    assert body["usage"]["total_tokens"] == 12
    assert body["session_id"] == "sess_x"
    assert "session_state" not in body


def test_a_whole_answer_without_reasoning_has_no_such_member() -> None:
    said = Answer({0: Choice("ya")}, finish_reason="length")
    body = render_completion(a_session(), said)
    assert "reasoning" not in body["choices"][0]["message"]
    assert body["choices"][0]["finish_reason"] == "length"


def test_a_whole_cancelled_answer_keeps_what_was_said() -> None:
    body = render_completion(a_session(), Answer({0: Choice("sebagi")}, finish_reason="cancelled"))
    assert body["choices"][0]["message"]["content"] == "sebagi"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["session_state"] == "cancelled"


def test_an_answer_read_in_batches_is_the_answer_read_at_once() -> None:
    at_once, in_batches = Answer(), Answer()
    at_once.add(enumerate(EVERY_DELTA))
    for index, delta in enumerate(EVERY_DELTA):
        in_batches.add([(index, delta)])
    assert at_once == in_batches
    assert at_once.text == "ya"


@pytest.mark.parametrize("reason", ["stop", "length", "cancelled"])
@pytest.mark.parametrize("reasoning", ["", "hm"])
@pytest.mark.parametrize("logprobs", [[], TOLD])
def test_the_whole_answer_is_as_the_api_pages_describe_it(
    reason: str, reasoning: str, logprobs: list[StoredTokenLogprob]
) -> None:
    answer = Answer(
        {0: Choice("ya", reasoning, logprobs)},
        finish_reason=reason,
        prompt_tokens=7,
        completion_tokens=5,
        reasoning_tokens=2,
    )
    body = render_completion(a_session(), answer)
    described = replies.ChatCompletion.model_validate(body)
    # Both ways: nothing that is sent is undescribed, and nothing described is sent otherwise.
    assert described.model_dump(mode="json", exclude_unset=True) == body


# --- logprobs ---


@pytest.mark.parametrize("kind", ["text", "reasoning"])
def test_logprobs_stand_beside_the_text_that_they_are_of(kind: Any) -> None:
    choice = choice_of({"type": kind, "text": "ya", "logprobs": TOLD})
    assert choice["delta"] == choice_of({"type": kind, "text": "ya"})["delta"]
    assert choice["logprobs"]["refusal"] is None
    first, second = choice["logprobs"]["content"]
    assert (first["token"], first["bytes"], first["logprob"]) == ("y", [121], -0.5)
    assert first["top_logprobs"][1] == {"token": "<|im_end|>", "bytes": None, "logprob": -1.5}
    assert (second["logprob"], second["top_logprobs"]) == (-9999.0, [])


def test_chunks_without_tokens_have_null_logprobs() -> None:
    for delta in EVERY_DELTA[:4]:
        assert choice_of(delta)["logprobs"] is None


def test_a_whole_answer_has_the_logprobs_of_all_its_chunks() -> None:
    said = Answer()
    said.add([(1, {"type": "reasoning", "text": "hm", "logprobs": TOLD[:1]})])
    said.add([(2, {"type": "text", "text": "ya", "logprobs": TOLD[1:]}), (3, {"type": "finish", "reason": "stop"})])
    body = render_completion(a_session(), said)
    ChatCompletion.model_validate(body, strict=True)
    assert [token["token"] for token in body["choices"][0]["logprobs"]["content"]] == ["y", "a"]


# --- several answers ---

TWO: list[StoredDelta] = [
    {"type": "start"},
    {"type": "text", "text": "a"},
    {"type": "text", "text": "b", "choice": 1},
    {"type": "reasoning", "text": "hm", "choice": 1},
    {"type": "finish", "choice": 0, "reason": "stop"},
    {"type": "finish", "choice": 1, "reason": "length"},
    USAGE,
    {"type": "end"},
]


def test_every_choice_of_a_stream_has_its_index_and_its_end() -> None:
    chunks = [json.loads(rendered(delta, choices=2) or "{}") for delta in TWO[:6]]
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    seen = [[(c["index"], c["delta"], c["finish_reason"]) for c in chunk["choices"]] for chunk in chunks]
    role = {"role": "assistant", "content": ""}
    assert seen == [
        [(0, role, None), (1, role, None)],
        [(0, {"content": "a"}, None)],
        [(1, {"content": "b"}, None)],
        [(1, {"reasoning_content": "hm", "reasoning": "hm"}, None)],
        [(0, {}, "stop")],
        [(1, {}, "length")],
    ]


def test_an_end_without_a_choice_ends_all() -> None:
    chunk = json.loads(rendered({"type": "finish", "reason": "cancelled"}, choices=3) or "{}")
    assert [(c["index"], c["finish_reason"]) for c in chunk["choices"]] == [(0, "stop"), (1, "stop"), (2, "stop")]
    assert chunk["session_state"] == "cancelled"


def test_a_whole_answer_has_every_choice() -> None:
    said = Answer()
    said.add(enumerate(TWO))
    body = render_completion(a_session(2), said)
    ChatCompletion.model_validate(body, strict=True)
    assert replies.ChatCompletion.model_validate(body).model_dump(mode="json", exclude_unset=True) == body
    first, second = body["choices"]
    assert (first["index"], first["message"]["content"], first["finish_reason"]) == (0, "a", "stop")
    assert (second["index"], second["message"]["content"], second["finish_reason"]) == (1, "b", "length")
    assert second["message"]["reasoning_content"] == "hm" and "reasoning" not in first["message"]


def test_a_choice_that_was_cancelled_before_its_first_word_is_there() -> None:
    said = Answer()
    said.add([(1, {"type": "text", "text": "a"}), (2, {"type": "finish", "reason": "cancelled"})])
    body = render_completion(a_session(2), said)
    assert [(c["message"]["content"], c["finish_reason"]) for c in body["choices"]] == [("a", "stop"), ("", "stop")]
    assert body["session_state"] == "cancelled"


# --- Calls ---

CALLED: list[StoredDelta] = [
    {"type": "start"},
    {"type": "call", "call": 0, "name": "weather", "arguments": ""},
    {"type": "call", "call": 0, "arguments": '{"city": "Solo"}'},
    {"type": "call", "call": 1, "name": "now", "arguments": "{}"},
    {"type": "finish", "reason": "tool_calls"},
    USAGE,
    {"type": "end"},
]


def test_a_call_begins_with_its_id_and_name_and_goes_on_with_its_arguments() -> None:
    parts = [choice_of(delta)["delta"]["tool_calls"][0] for delta in CALLED[1:4]]
    assert [part["index"] for part in parts] == [0, 0, 1]
    assert parts[0]["id"] == call_id("sess_x", 0, 0) != parts[2]["id"] == call_id("sess_x", 0, 1)
    assert parts[0]["function"] == {"name": "weather", "arguments": ""}
    assert parts[1] == {"index": 0, "function": {"arguments": '{"city": "Solo"}'}}
    assert choice_of(CALLED[4])["finish_reason"] == "tool_calls"


def test_a_whole_answer_has_the_calls_of_its_stream() -> None:
    said = Answer()
    said.add(enumerate(CALLED))
    body = render_completion(a_session(), said)
    ChatCompletion.model_validate(body, strict=True)
    assert replies.ChatCompletion.model_validate(body).model_dump(mode="json", exclude_unset=True) == body
    message = body["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {
            "id": call_id("sess_x", 0, number),
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }
        for number, (name, arguments) in enumerate([("weather", '{"city": "Solo"}'), ("now", "{}")])
    ]


def test_a_text_beside_calls_is_the_content() -> None:
    said = Answer()
    said.add(enumerate([{"type": "text", "text": "Baik."}, *CALLED[1:]]))
    assert render_completion(a_session(), said)["choices"][0]["message"]["content"] == "Baik."


# --- What listeners share ---


def test_listeners_with_the_same_view_share_a_renderer_while_they_listen() -> None:
    first = renderer_of(a_session(), include_usage=False)
    assert renderer_of(a_session(), include_usage=False) is first
    assert renderer_of(a_session(), include_usage=True) is not first
    other = a_session()
    other.created_at += datetime.timedelta(seconds=1)  # the id was used again
    assert renderer_of(other, include_usage=False) is not first


def test_what_is_kept_for_others_is_what_each_would_render() -> None:
    shared = renderer_of(a_session(), include_usage=False)
    for index in [*range(KEPT_CHUNKS + 5), 0, 1, KEPT_CHUNKS]:
        chunk = StreamChunk(index, {"type": "text", "text": f"kata {index}", "logprobs": TOLD})
        assert shared(chunk) == ChunkRenderer(a_session(), include_usage=False)(chunk)
    assert len(shared._kept) == KEPT_CHUNKS
