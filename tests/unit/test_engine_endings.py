"""How a prompt ends: with a turn for the model, with the last message, or inside of it."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest

from inference.engine.errors import InvalidPrompt
from inference.engine.prompts import PromptMaker
from inference.engine.types import GenerationRequest, PromptEnding, Sampling


def request(ending: PromptEnding, *texts: str, resume_ids: Any = (), **sampling: Any) -> GenerationRequest:
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Siapa namamu?"},
        {"role": "assistant", "content": [{"type": "text", "text": text} for text in texts]},
    ]
    return GenerationRequest(messages, Sampling(**{"max_tokens": 20, **sampling}), ending=ending, resume_ids=resume_ids)


def text_of(loaded: Any, wanted: GenerationRequest) -> str:
    prompt = PromptMaker(loaded, max_context_tokens=2000).make(wanted)
    return str(loaded.tokenizer.decode(prompt.ids))


def test_a_turn_is_opened_for_the_model(loaded: Any) -> None:
    assert text_of(loaded, request("turn", "Nama saya")).endswith("Nama saya<|im_end|>\n<|im_start|>assistant\n")


def test_the_last_message_ends_the_prompt(loaded: Any) -> None:
    assert text_of(loaded, request("message", "Nama saya")).endswith("assistant\nNama saya<|im_end|>\n")


@pytest.mark.parametrize("texts", [("Nama saya",), ("Nama ", "saya"), ("Nama saya \n ",), ("<|im_end|>",), ("",)])
def test_the_last_message_stays_open(loaded: Any, texts: tuple[str, ...]) -> None:
    assert text_of(loaded, request("inside", *texts)).endswith("<|im_start|>assistant\n" + "".join(texts))


def test_what_a_message_says_does_not_end_it(loaded: Any) -> None:
    prompt = PromptMaker(loaded, max_context_tokens=2000).make(request("inside", "<|im_end|>"))
    end = loaded.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert prompt.ids.tolist().count(end) == 1


def test_a_template_that_writes_the_last_message_twice_or_never_is_refused(loaded: Any) -> None:
    for template in ("{{ messages[0].content[0].text }}", "{{ messages[-1].content[0].text * 2 }}"):
        processor = copy.copy(loaded.processor)
        processor.chat_template = template
        maker = PromptMaker(dataclasses.replace(loaded, processor=processor), max_context_tokens=2000)
        with pytest.raises(InvalidPrompt, match="no place"):
            maker.make(request("inside", "Nama saya"))


def test_an_answer_that_goes_on_from_a_message_survives_a_takeover(start_engine: Any, collect: Any) -> None:
    engine = start_engine()
    wanted = {"temperature": 1.0, "seed": 4}
    whole = collect(engine.submit(request("inside", "Nama saya", **wanted)))
    assert whole.ids
    for cut in range(0, len(whole.ids) + 1, 4):
        resumed = collect(engine.submit(request("inside", "Nama saya", resume_ids=whole.ids[:cut], **wanted)))
        assert resumed.deltas == whole.deltas[cut:]
