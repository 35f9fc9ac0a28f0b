"""The one fold of the log: what chunks add to the answer of a session."""

from __future__ import annotations

from typing import Any

import pytest

from sessions_app.answer import Answer, Call, Choice
from sessions_app.deltas import StoredDelta

LOG: list[StoredDelta] = [
    {"type": "start"},
    {"type": "reasoning", "text": "Blue"},
    {"type": "reasoning", "text": "Red", "choice": 1},
    {"type": "reasoning", "text": "?"},
    {"type": "text", "text": "A plate."},
    {"type": "text", "text": "A cup", "choice": 1},
    {"type": "refusal", "text": "No.", "choice": 3},
    {"type": "text", "text": ".", "choice": 1},
    {"type": "finish", "choice": 1, "reason": "length"},
    {"type": "finish", "reason": "stop"},
    {"type": "usage", "prompt_tokens": 5, "completion_tokens": 4, "reasoning_tokens": 3},
    {"type": "end"},
]


def folded(*deltas: Any) -> Answer:
    answer = Answer()
    answer.add(enumerate(deltas))
    return answer


def test_every_choice_has_its_own_text_reasoning_refusal_and_end() -> None:
    answer = folded(*LOG)
    assert answer.choices == {
        0: Choice(text="A plate.", reasoning="Blue?"),
        1: Choice(text="A cup.", reasoning="Red", finish_reason="length"),
        3: Choice(refusal="No."),
    }
    assert (answer.finish_reason, answer.completion_tokens, answer.reasoning_tokens) == ("stop", 4, 3)
    assert (answer.last_index, answer.is_ended) == (11, True)


def test_a_choice_that_has_said_nothing_is_empty() -> None:
    answer = folded(*LOG)
    assert answer.choice(2) == Choice()
    assert [choice.text or choice.refusal for choice in answer.others] == ["A cup.", "No."]
    assert Answer().first == Choice()


def test_an_answer_without_a_terminal_chunk_has_not_ended() -> None:
    answer = folded(*LOG[:6])
    assert (answer.last_index, answer.is_ended, answer.finish_reason) == (5, False, "")


def test_a_failed_answer_keeps_what_was_said_and_the_error() -> None:
    error = {"message": "lost", "type": "server_error", "param": None, "code": "worker_lost"}
    answer = folded({"type": "text", "text": "A pl"}, {"type": "error", "error": error, "status": 502})
    assert (answer.text, answer.error, answer.error_status, answer.is_ended) == ("A pl", error, 502, True)


def test_a_delta_of_a_later_version_adds_nothing() -> None:
    assert folded({"type": "something new", "text": "x"}).choices == {}


@pytest.mark.parametrize(
    "row",
    [None, 5, [], {}, {"type": "text"}, {"type": "text", "text": 5}, {"type": "text", "text": "a", "choice": "b"}],
)
def test_a_row_that_does_not_hold_a_delta_is_an_error(row: Any) -> None:
    with pytest.raises((LookupError, TypeError, AttributeError)):
        folded(row)


def test_calls_grow_by_their_parts() -> None:
    answer = folded(
        {"type": "call", "call": 0, "name": "weather", "arguments": '{"ci'},
        {"type": "call", "call": 0, "arguments": 'ty": 1}', "choice": 1, "name": "rain"},
        {"type": "call", "call": 0, "arguments": 'ty": 2}'},
        {"type": "call", "call": 1, "name": "now", "arguments": "{}"},
    )
    assert answer.first.calls == [Call("weather", '{"city": 2}'), Call("now", "{}")]
    assert answer.choice(1).calls == [Call("rain", 'ty": 1}')]


def test_a_part_of_a_call_that_has_not_begun_is_no_delta() -> None:
    with pytest.raises(LookupError):
        folded({"type": "call", "call": 0, "arguments": "{}"})


def test_nothing_is_counted_before_the_usage_and_an_error_without_a_status_is_a_500() -> None:
    answer = folded({"type": "start"}, {"type": "text", "text": "a"})
    assert (answer.prompt_tokens, answer.completion_tokens, answer.reasoning_tokens, answer.cached_tokens) == (
        0,
        0,
        0,
        0,
    )
    assert answer.error_status == 500
