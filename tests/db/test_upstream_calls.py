"""Tool calls of a model that another server runs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inference.backends.upstream.errors import UpstreamError
from inference.backends.upstream.target import Target
from inference.engine.types import Delta
from sessions_app.deltas import CallDelta
from sessions_app.store.appending import Piece
from tests.db.scripted_upstream import DONE, SAMPLING, Scripted, chunk, collected, session_of, text_of

pytestmark = pytest.mark.django_db

TOOLS = [{"type": "function", "function": {"name": "weather"}}]


def calls(*parts: dict[str, Any]) -> str:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'tool_calls': list(parts)}}]})}\n\n"


def begun(name: str, arguments: str = "", index: int | None = 0) -> dict[str, Any]:
    numbered = {} if index is None else {"index": index}
    return {**numbered, "id": f"x{index}{name}", "type": "function", "function": {"name": name, "arguments": arguments}}


def more(arguments: str, index: int = 0) -> dict[str, Any]:
    return {"index": index, "function": {"arguments": arguments}}


def called(deltas: list[Delta]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for piece in (piece for delta in deltas for piece in delta.calls):
        if piece.name:
            assert piece.call == len(found)
            found.append((piece.name, ""))
        name, arguments = found[piece.call]
        found[piece.call] = (name, arguments + piece.arguments)
    return found


def committed(name: str, arguments: str) -> Piece:
    delta: CallDelta = {"type": "call", "call": 0, "name": name, "arguments": arguments}
    return Piece(delta, [-1])


def test_calls_come_out_as_from_an_engine(upstream: Scripted, start_engine: Any) -> None:
    upstream.streams(
        calls(begun("weather")), calls(more('{"city": ')), calls(more('"Solo"}'), begun("now", "{}", index=1)),
        chunk(finish="tool_calls"), DONE,
    )  # fmt: skip
    deltas, finish = collected(start_engine("none").submit(session_of(wire_format={"tools": TOOLS})))
    assert called(deltas) == [("weather", '{"city": "Solo"}'), ("now", "{}")]
    assert finish.reason == "tool_calls"
    assert upstream.requests[0]["tools"] == TOOLS


def test_calls_that_are_not_numbered_are_taken_one_by_one(upstream: Scripted, start_engine: Any) -> None:
    one, other = (calls(begun(name, "{}", index=None)) for name in "ab")
    upstream.streams(one, other, chunk(finish="stop"), DONE)
    deltas, finish = collected(start_engine("none").submit(session_of()))
    assert called(deltas) == [("a", "{}"), ("b", "{}")]
    assert finish.reason == "tool_calls"


def test_calls_that_are_all_numbered_alike_are_taken_one_by_one(upstream: Scripted, start_engine: Any) -> None:
    one, other = (calls({**begun(name, "{}"), "id": name}) for name in "ab")
    upstream.streams(one, other, chunk(finish="stop"), DONE)
    deltas, _ = collected(start_engine("none").submit(session_of()))
    assert called(deltas) == [("a", "{}"), ("b", "{}")]


@pytest.mark.parametrize(
    "part",
    [
        *(None, 3, {}, {"index": 0}, {"index": "x", "function": []}, begun("n" * 300)),
        *({"index": number, "function": {"arguments": "{}"}} for number in (5, -1, True)),
    ],
)
def test_what_is_no_call_says_nothing(upstream: Scripted, start_engine: Any, part: Any) -> None:
    upstream.streams(calls(part), chunk("Ya."), chunk(finish="stop"), DONE)
    deltas, _ = collected(start_engine("none").submit(session_of()))
    assert called(deltas) == []
    assert "".join(delta.text for delta in deltas) == "Ya."


def test_a_name_that_cannot_be_stored_is_made_one_that_can(upstream: Scripted, start_engine: Any) -> None:
    upstream.streams(calls(begun("a\0", '{"b": "\ud800"}')), chunk(finish="stop"), DONE)
    deltas, _ = collected(start_engine("none").submit(session_of()))
    assert called(deltas) == [("a\ufffd", '{"b": "\ufffd"}')]


@pytest.mark.parametrize("resume", ["none", "prefix"])
def test_a_call_that_was_cut_off_is_not_spliced(start_engine: Any, resume: Any) -> None:
    session = session_of(committed("weather", '{"city": "So'), wire_format={"tools": TOOLS})
    with pytest.raises(UpstreamError):
        collected(start_engine(resume).submit(session))


def test_a_stream_that_repeats_a_call_delivers_the_rest(upstream: Scripted, start_engine: Any) -> None:
    upstream.streams(
        calls(begun("weather", '{"ci')),
        calls(more('ty": "Solo"}')),
        calls(begun("now", "{}", 1)),
        chunk(finish="stop"),
        DONE,
    )
    deltas, _ = collected(start_engine("session").submit(session_of(committed("weather", '{"city": "So'))))
    pieces = [piece for delta in deltas for piece in delta.calls]
    assert [(piece.call, piece.name, piece.arguments) for piece in pieces] == [(0, "", 'lo"}'), (1, "now", "{}")]


def test_log_probabilities_of_a_repeated_call_are_not_written_again(upstream: Scripted, start_engine: Any) -> None:
    said = {"content": [{"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": []}]}
    delta = {"tool_calls": [begun("weather", '{"city": "So')]}
    repeated = {"choices": [{"index": 0, "delta": delta, "logprobs": said}]}
    upstream.streams(f"data: {json.dumps(repeated)}\n\n", calls(more('lo"}')), chunk(finish="stop"), DONE)
    session = session_of(committed("weather", '{"city": "So'), sampling={**SAMPLING, "logprobs": 0})
    deltas, _ = collected(start_engine("session").submit(session))
    assert [piece.arguments for delta in deltas for piece in delta.calls] == ['lo"}']
    assert [delta.logprobs for delta in deltas] == [()]


@pytest.mark.parametrize("second", [begun("rain", '{"city": "So'), begun("weather", '{"town": '), None])
def test_a_stream_that_repeats_another_call_fails(upstream: Scripted, start_engine: Any, second: Any) -> None:
    upstream.streams(*([calls(second)] if second else []), chunk(finish="stop"), DONE)
    with pytest.raises(UpstreamError):
        collected(start_engine("session").submit(session_of(committed("weather", '{"city": "So'))))


SAID = {"role": "assistant", "content": [{"type": "text", "text": "Ya."}], "reasoning_content": "Saya cari."}
ASKED = {"role": "user", "content": [{"type": "text", "text": "Yakin?"}]}
BOTH = ("reasoning_content", "reasoning")


def names_sent(upstream: Scripted) -> list[set[str]]:
    """By which names each request has the reasoning of its first message."""
    return [set(request["messages"][0]) & {*BOTH} for request in upstream.requests]


@pytest.mark.parametrize("names", [("reasoning",), ("reasoning_content",), BOTH])
def test_the_reasoning_of_earlier_turns_is_passed_on_by_the_targets_names(
    upstream: Scripted, start_engine: Any, names: tuple[str, ...]
) -> None:
    upstream.streams(chunk(finish="stop"), DONE)
    engine = start_engine("none")
    engine.target = Target("the/model", "none", names)
    collected(engine.submit(session_of(messages=[SAID, ASKED])))
    assert upstream.requests[0]["messages"] == [
        {"role": "assistant", "content": "Ya.", **dict.fromkeys(names, "Saya cari.")},
        {"role": "user", "content": "Yakin?"},
    ]


def test_an_unknown_upstream_that_refuses_reasoning_gets_none(upstream: Scripted, start_engine: Any) -> None:
    engine = start_engine("none")
    upstream.refuses(400, {"message": "unknown field reasoning"})
    for _ in range(2):
        upstream.streams(chunk("Ya."), chunk(finish="stop"), DONE)
        assert text_of(collected(engine.submit(session_of(messages=[SAID, ASKED])))[0]) == "Ya."
    assert names_sent(upstream) == [{*BOTH}, set(), set()]


def test_a_known_upstream_that_refuses_the_request_is_not_asked_again(upstream: Scripted, start_engine: Any) -> None:
    engine = start_engine("none")
    engine.target = Target("the/model", "none", ("reasoning",))
    upstream.refuses(400, {"message": "bad picture"})
    with pytest.raises(UpstreamError, match="bad picture"):
        collected(engine.submit(session_of(messages=[SAID, ASKED])))
    assert names_sent(upstream) == [{"reasoning"}]
