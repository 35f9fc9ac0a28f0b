"""An answer with tool calls: what of its tokens is text, and what is a call."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.detokenizer import Decoded, Detokenizer
from inference.engine.errors import EngineError, InvalidPrompt
from inference.engine.generation import Generation
from inference.engine.handle import Handle
from inference.engine.prompts import PromptMaker
from inference.engine.tool_calls import CallPiece
from inference.engine.types import Finish, GenerationRequest, Sampling
from inference.engine.vocabulary import Vocabulary

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
USER = {"role": "user", "content": "Hujan?"}
ONE = '<tool_call>\n{"name": "weather", "arguments": {"city": "Solo"}}\n</tool_call>'
TWO = f'{ONE}\n<tool_call>{{"name": "now"}}</tool_call>'


@pytest.fixture(scope="module")
def vocabulary(loaded: Any) -> Vocabulary:
    return loaded.vocabulary


def ids_of(loaded: Any, text: str) -> list[int]:
    return loaded.tokenizer(text).input_ids


def read(loaded: Any, text: str, **options: Any) -> tuple[Decoded, Detokenizer]:
    detokenizer = Detokenizer(loaded.vocabulary, **{"reads_calls": True, **options})
    whole = Decoded()
    for token in ids_of(loaded, text):
        whole += detokenizer.feed(token)
    return whole + detokenizer.flush(), detokenizer


def calls_of(piece: Decoded) -> list[tuple[str, str]]:
    found: dict[int, tuple[str, str]] = {}
    for call in piece.calls:
        name, arguments = found.get(call.call, ("", ""))
        assert not (name and call.name), "a name comes once"
        found[call.call] = (name + call.name, arguments + call.arguments)
    return [found[number] for number in sorted(found)]


@pytest.mark.parametrize(
    ("text", "said", "calls"),
    [
        pytest.param(ONE, "", [("weather", '{"city": "Solo"}')], id="a call"),
        pytest.param(TWO, "", [("weather", '{"city": "Solo"}'), ("now", "{}")], id="two calls"),
        pytest.param(f"Sebentar.{ONE}", "Sebentar.", [("weather", '{"city": "Solo"}')], id="a text before it"),
        pytest.param(f"{ONE}\n\nItu saja.", "Itu saja.", [("weather", '{"city": "Solo"}')], id="a text behind it"),
        pytest.param("<tool_call>hujan</tool_call>", "<tool_call>hujan</tool_call>", [], id="no call in it"),
        pytest.param('<tool_call>{"name"', '<tool_call>{"name"', [], id="cut off before the name is known"),
        pytest.param('<tool_call>{"name": "a", "arguments": {"b', "", [("a", '{"b')], id="cut off in the arguments"),
        pytest.param("a</tool_call>b", "a</tool_call>b", [], id="an end without a beginning"),
        pytest.param(f"<think>{ONE}</think>ya", "ya", [], id="a call that is only thought of"),
    ],
)
def test_calls_are_taken_out_of_the_text(loaded: Any, text: str, said: str, calls: list[tuple[str, str]]) -> None:
    piece, detokenizer = read(loaded, text)
    assert piece.text == said
    assert calls_of(piece) == calls
    assert detokenizer.calls == len(calls)


def test_without_tools_the_same_tokens_are_text(loaded: Any) -> None:
    piece, _ = read(loaded, TWO, reads_calls=False)
    assert piece == Decoded(text=TWO)


def test_a_stop_string_in_a_call_ends_nothing(loaded: Any) -> None:
    piece, detokenizer = read(loaded, ONE, stop=["Solo"])
    assert calls_of(piece) == [("weather", '{"city": "Solo"}')]
    assert not detokenizer.stopped


@given(st.data())
def test_a_resumed_answer_repeats_no_part_of_a_call(loaded: Any, data: st.DataObject) -> None:
    tokens = ids_of(loaded, f"Sebentar. {TWO}")
    cut = data.draw(st.integers(0, len(tokens)))
    undisturbed, resumed = (
        Detokenizer(loaded.vocabulary, reads_calls=True),
        Detokenizer(loaded.vocabulary, reads_calls=True),
    )
    pieces = [undisturbed.feed(token) for token in tokens]
    for token in tokens[:cut]:
        resumed.feed(token)
    assert [resumed.feed(token) for token in tokens[cut:]] == pieces[cut:]
    assert resumed.flush() == undisturbed.flush()


def generation(loaded: Any, **fields: Any) -> Generation:
    request = GenerationRequest(messages=[USER], sampling=Sampling(max_tokens=200), **{"tools": [WEATHER], **fields})
    prompt = PromptMaker(loaded, max_context_tokens=4096).make(request)
    handle = Handle(on_close=lambda handle: None)
    return Generation(
        request,
        prompt,
        handle,
        vocabulary=loaded.vocabulary,
        eos_token_ids=loaded.tokenizer("<|im_end|>").input_ids,
        max_context_tokens=4096,
    )


def finish_of(loaded: Any, text: str, **fields: Any) -> Finish:
    running = generation(loaded, **fields)
    for token in ids_of(loaded, text):
        running.accept(token)
    *_, finish = running.handle
    return finish  # type: ignore[return-value]


def test_an_answer_with_a_call_ends_for_it(loaded: Any) -> None:
    assert finish_of(loaded, f"{ONE}<|im_end|>").reason == "tool_calls"
    assert finish_of(loaded, "Tidak.<|im_end|>").reason == "stop"


def test_an_answer_that_may_call_once_ends_behind_the_call(loaded: Any) -> None:
    assert finish_of(loaded, ONE, one_call=True).reason == "tool_calls"


def test_a_call_that_is_not_closed_counts_when_the_next_begins(loaded: Any) -> None:
    text = ONE.replace("</tool_call>", "")
    assert finish_of(loaded, f"{text}<tool_call>", one_call=True).reason == "tool_calls"


def test_an_answer_that_cannot_be_read_fails_alone(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    running = generation(loaded)

    def stumble(*args: object, **kwargs: object) -> None:
        raise RecursionError

    monkeypatch.setattr(running._detokenizer, "feed", stumble)
    running.accept(5)
    with pytest.raises(EngineError):
        list(running.handle)


def test_the_model_is_told_of_the_tools_and_of_what_they_gave(loaded: Any) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Solo"}}}
    messages: list[dict[str, Any]] = [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "cerah </tool_call>"},
    ]
    request = GenerationRequest(messages=messages, sampling=Sampling(max_tokens=1), tools=[WEATHER])
    prompt = PromptMaker(loaded, max_context_tokens=4096).make(request)
    text = loaded.tokenizer.decode(prompt.ids)
    assert '"name": "weather"' in text
    assert "cerah </tool_call>" in text
    # Of the template: one in what it says of tools, one of the call. The result's is text.
    assert prompt.ids.tolist().count(loaded.vocabulary.call_end) == 2


def test_a_template_that_knows_no_tools_refuses_them(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "{%- for message in messages -%}{{ message.role }}{{ message.content }}{%- endfor -%}"
    monkeypatch.setattr(loaded.processor, "chat_template", source)
    maker = PromptMaker(loaded, max_context_tokens=4096)
    with pytest.raises(InvalidPrompt, match="knows no tools"):
        maker.make(GenerationRequest(messages=[USER], sampling=Sampling(max_tokens=1), tools=[WEATHER]))


def test_a_piece_of_a_call_says_which_call_it_is_of() -> None:
    assert CallPiece("a", call=1) and not CallPiece(call=1)
