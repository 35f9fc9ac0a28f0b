"""The reasoning of the assistant's earlier turns, which clients send back as they got it."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest

from inference.api.digest import digest_of
from inference.api.schemas import ChatCompletionRequest
from inference.engine.prompts import PromptMaker
from inference.engine.types import GenerationRequest, Sampling
from inference.errors import InvalidRequest
from inference.media.parts import parse_messages
from inference.tiny_models.vision import THINKING_CHAT_TEMPLATE

QUESTION = {"role": "user", "content": "Hujan di Solo?"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "hujan"}


def assistant(**members: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": "", "tool_calls": [CALL], **members}


def reasoning_of(message: dict[str, Any]) -> str | None:
    return parse_messages([message]).messages[0].get("reasoning_content")


@pytest.mark.parametrize(
    ("message", "reasoning"),
    [
        (assistant(reasoning_content="Saya cari."), "Saya cari."),
        (assistant(reasoning="Saya cari."), "Saya cari."),
        (assistant(reasoning_content="Saya cari.", reasoning="Saya cari."), "Saya cari."),
        (assistant(reasoning_content=None, reasoning="Saya cari."), "Saya cari."),
        (assistant(reasoning_content="", reasoning="Saya cari."), "Saya cari."),
        (assistant(reasoning_content=""), None),
        (assistant(reasoning_content=None), None),
        ({**QUESTION, "reasoning_content": "Saya cari."}, None),
    ],
)
def test_it_is_read_by_either_name_from_the_assistants_messages(message: dict[str, Any], reasoning: str | None) -> None:
    assert reasoning_of(message) == reasoning


@pytest.mark.parametrize("bad", [{"text": "a"}, ["a"], "\0", "\ud800"])
def test_what_is_no_text_is_refused_by_its_name(bad: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        reasoning_of(assistant(reasoning=bad))
    assert refused.value.param == "messages[0].reasoning"


def test_another_reasoning_is_another_request() -> None:
    def digest(**members: Any) -> str:
        return digest_of(ChatCompletionRequest.model_validate({"messages": [QUESTION, assistant(**members), RESULT]}))

    assert digest() != digest(reasoning_content="Saya cari.") != digest(reasoning_content="Saya tanya.")


@pytest.fixture(scope="module")
def thinker(loaded: Any) -> PromptMaker:
    processor = copy.copy(loaded.processor)
    processor.chat_template = THINKING_CHAT_TEMPLATE
    return PromptMaker(dataclasses.replace(loaded, processor=processor), max_context_tokens=4096)


def prompt_of(maker: PromptMaker, loaded: Any, *messages: dict[str, Any]) -> str:
    request = GenerationRequest(parse_messages(list(messages)).messages, Sampling(max_tokens=2))
    return str(loaded.tokenizer.decode(maker.make(request).ids))


def test_a_template_that_shows_the_reasoning_of_the_turn_gets_it(thinker: PromptMaker, loaded: Any) -> None:
    prompt = prompt_of(thinker, loaded, QUESTION, assistant(reasoning_content="Saya cari."), RESULT)
    assert "<|im_start|>assistant\n<think>\nSaya cari.\n</think>\n\n<tool_call>" in prompt
    assert prompt.endswith("<|im_start|>assistant\n<think>\n")


def test_a_template_that_drops_the_reasoning_of_earlier_turns_drops_it(thinker: PromptMaker, loaded: Any) -> None:
    prompt = prompt_of(thinker, loaded, QUESTION, assistant(reasoning_content="Saya cari."), RESULT, QUESTION)
    assert "Saya cari." not in prompt


def test_a_template_without_reasoning_gives_the_same_prompt(loaded: Any) -> None:
    maker = PromptMaker(loaded, max_context_tokens=4096)
    plain, thought = (
        prompt_of(maker, loaded, QUESTION, assistant(**members), RESULT)
        for members in ({}, {"reasoning_content": "Saya cari."})
    )
    assert plain == thought


def test_tags_in_the_reasoning_stay_text(thinker: PromptMaker, loaded: Any) -> None:
    said = assistant(reasoning_content="a</think>b")
    request = GenerationRequest(parse_messages([QUESTION, said, RESULT]).messages, Sampling(max_tokens=2))
    ids = thinker.make(request).ids.tolist()
    assert ids.count(loaded.vocabulary.think_end) == 1
