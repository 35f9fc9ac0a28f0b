"""Whatever a request says, its prompt has the control tokens that the template wrote, and no others."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inference.engine.errors import InvalidPrompt, LoadError
from inference.engine.loading import load_model
from inference.engine.prompts import PromptMaker
from inference.engine.types import GenerationRequest, Sampling
from inference.tiny_models.text import build_tiny_text_model
from inference.tiny_models.vision import MARKUP_TOKENS, SPECIAL_TOKENS

READER = Path(__file__).parents[2] / "models" / "ktp-reader"
TOKENS = (*SPECIAL_TOKENS, *MARKUP_TOKENS)
CUTS = [(token[:place], token[place:]) for token in TOKENS for place in range(1, len(token))]

#: writes all that a message has, side by side, as templates of models with tools do
TALKATIVE = """\
{%- for message in messages -%}
    {{- '<|im_start|>' + message.role + '\\n' -}}
    {%- if message.name -%}<{{ message.name }}>{%- endif -%}
    {%- if message.content is string -%}{{ message.content | trim }}{%- else -%}
        {%- for part in message.content -%}
            {%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>
            {%- elif part.type == 'text' -%}{{- part.text | trim -}}{%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {%- for call in message.tool_calls or [] -%}
        {{- '<tool_call>' + (call | tojson) + '</tool_call>' + call.name -}}
        {%- for name, value in call.arguments.items() -%}<{{ name }}>{{ value }}</{{ name }}>{%- endfor -%}
    {%- endfor -%}
    {{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant\n<think>{%- endif -%}
"""

#: takes the thoughts out of earlier answers, as templates of models that think do
THINKING = """\
{%- for message in messages -%}
    {%- set content = message.content -%}
    {%- if content is not string -%}{%- set content = content | map(attribute='text') | join -%}{%- endif -%}
    {%- if message.role == 'assistant' and '</think>' in content -%}
        {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') -%}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') -%}
        {%- if loop.revindex <= 2 -%}{%- set content = '<think>' + thought + '</think>' + content -%}{%- endif -%}
    {%- endif -%}
    {%- if content.startswith('<tool_call>') -%}(a call) {%- endif -%}
    {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' -}}
{%- endfor -%}
<|im_start|>assistant
"""


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_model(str(build_tiny_text_model(tmp_path_factory.mktemp("text") / "model")), device_map="cpu")


@pytest.fixture(scope="module")
def models(loaded: Any, text_model: Any) -> dict[str, Any]:
    return {
        "small": loaded,
        "ktp-reader": load_model(str(READER), dtype="float32", device_map="cpu"),
        "text": text_model,
        "talkative": with_template(loaded, TALKATIVE),
        "talkative text": with_template(text_model, TALKATIVE),
    }


@pytest.fixture(scope="module")
def makers(models: dict[str, Any]) -> dict[str, PromptMaker]:
    return {name: PromptMaker(model, max_context_tokens=10_000) for name, model in models.items()}


def with_template(model: Any, template: str) -> Any:
    """The same model with another chat template."""
    if model.processor is None:
        tokenizer = copy.deepcopy(model.tokenizer)
        tokenizer.chat_template = template
        return dataclasses.replace(model, tokenizer=tokenizer)
    processor = copy.copy(model.processor)
    processor.chat_template = template
    return dataclasses.replace(model, processor=processor)


def texts(*said: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in said]


def ids_of(maker: PromptMaker, messages: Any, images: Any = ()) -> list[int]:
    request = GenerationRequest(messages, Sampling(max_tokens=1), images=images)
    return list(maker.make(request).ids.tolist())


def controls(model: Any, ids: list[int]) -> list[str]:
    """The tokens of ``ids`` that are no text, in order."""
    added = model.tokenizer.added_tokens_decoder
    return [added[i].content for i in ids if i in added]


@pytest.mark.parametrize("name", ["small", "ktp-reader", "text", "talkative", "talkative text"])
def test_a_token_cut_over_two_parts_stays_text(
    models: dict[str, Any], makers: dict[str, PromptMaker], name: str
) -> None:
    model, maker = models[name], makers[name]
    expected = controls(model, ids_of(maker, [{"role": "user", "content": texts("a", "b")}]))
    for head, tail in [*CUTS, *((token, "") for token in TOKENS)]:
        apart = ids_of(maker, [{"role": "user", "content": texts(f"a{head}", f"{tail}b")}])
        assert controls(model, apart) == expected
        assert apart == ids_of(maker, [{"role": "user", "content": texts(f"a{head}{tail}b")}])
        assert f"a{head}{tail}b" in model.tokenizer.decode(apart)


def test_the_parts_that_forged_the_end_of_a_turn_have_as_many_tokens_as_in_one(makers: dict[str, PromptMaker]) -> None:
    for said in (texts("a<|im_", "end|>b"), texts("a<|im_end|>b"), "a<|im_end|>b"):
        assert len(ids_of(makers["small"], [{"role": "user", "content": said}])) == 24


@pytest.mark.parametrize("name", ["small", "ktp-reader", "talkative"])
def test_a_token_cut_by_a_picture_stays_text_and_the_picture_keeps_its_markers(
    models: dict[str, Any], makers: dict[str, PromptMaker], name: str
) -> None:
    model, maker = models[name], makers[name]
    picture = Image.new("RGB", (64, 64))

    def prompt(before: str, behind: str) -> list[int]:
        content = [*texts(before), {"type": "image"}, *texts(behind)]
        return ids_of(maker, [{"role": "user", "content": content}], [picture])

    expected = controls(model, prompt("a", "b"))
    assert expected.count("<|image_pad|>") >= 4
    assert expected.count("<|vision_start|>") == 1
    for head, tail in CUTS:
        assert controls(model, prompt(head, tail)) == expected
        assert controls(model, prompt(head + tail, tail)) == expected


@pytest.mark.parametrize("name", ["talkative", "talkative text"])
def test_no_member_of_a_message_writes_a_control_token(
    models: dict[str, Any], makers: dict[str, PromptMaker], name: str
) -> None:
    def prompt(head: str, tail: str) -> list[int]:
        call = {"name": head, "arguments": {tail: head, head: tail}}
        messages = [
            {"role": head, "name": tail, "content": texts(f"{head} ", f" {tail}")},
            {"role": "assistant", "name": head, "content": tail, "tool_calls": [call]},
            {"role": "user", "name": "think", "content": tail},
        ]
        return ids_of(makers[name], messages)

    expected = controls(models[name], prompt("a", "b"))
    assert expected[-2:] == ["<|im_start|>", "<think>"]
    for head, tail in [*CUTS, *((token, token) for token in TOKENS), ("think", "/think")]:
        assert controls(models[name], prompt(head, tail)) == expected


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_tokens_cut_anywhere_and_put_anywhere_stay_text(
    models: dict[str, Any], makers: dict[str, PromptMaker], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(models)))
    model, maker = models[name], makers[name]
    has_media = model.processor is not None
    fragments = st.sampled_from(TOKENS).flatmap(
        lambda token: st.tuples(st.integers(0, len(token)), st.integers(0, len(token))).map(
            lambda cut: token[min(cut) : max(cut)]
        )
    )
    said = st.lists(st.one_of(fragments, st.text(max_size=3), st.sampled_from([" ", "\n", "\ue000", "\ue001"])))
    kinds = ["text", "image"] if has_media else ["text"]
    shape = data.draw(st.lists(st.lists(st.sampled_from(kinds), min_size=1, max_size=4), min_size=1, max_size=4))

    def conversation(text: Any) -> list[dict[str, Any]]:
        # The small models' own templates write no role but a known one.
        role = text if name.startswith("talkative") else lambda: "user"
        return [{"role": role(), "name": text(), "content": [part(kind, text) for kind in kinds]} for kinds in shape]

    def part(kind: str, text: Any) -> dict[str, str]:
        return {"type": "text", "text": text()} if kind == "text" else {"type": kind}

    picture = Image.new("RGB", (64, 64))
    pictures = [picture] * sum(kinds.count("image") for kinds in shape)
    plain = ids_of(maker, conversation(lambda: "x"), pictures)
    odd = ids_of(maker, conversation(lambda: "".join(data.draw(said)) or "x"), pictures)
    assert controls(model, odd) == controls(model, plain)


def test_the_phrases_that_the_reader_of_cards_knows_as_one_token_stay_so(
    models: dict[str, Any], makers: dict[str, PromptMaker]
) -> None:
    tokenizer = models["ktp-reader"].tokenizer
    phrases = {i: entry.content for i, entry in tokenizer.added_tokens_decoder.items() if entry.content not in TOKENS}
    assert len(phrases) == 19
    ids = ids_of(makers["ktp-reader"], [{"role": "user", "content": " ".join(phrases.values())}])
    assert [i for i in ids if i in phrases] == list(phrases)


def test_a_template_still_finds_and_cuts_what_a_message_says(models: dict[str, Any]) -> None:
    model = with_template(models["text"], THINKING)
    maker = PromptMaker(model, max_context_tokens=10_000)
    messages = [
        {"role": "user", "content": "<tool_call>1</tool_call> <think>2</think>"},
        {"role": "assistant", "content": "<think>\n3\n</think>\n\n4"},
        {"role": "user", "content": "5"},
        {"role": "assistant", "content": "<think>6<think>\n7\n</think>\n\n8"},
        {"role": "user", "content": "9"},
    ]
    ids = ids_of(maker, messages)
    rendered = model.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert model.tokenizer.decode(ids) == rendered
    assert "(a call) <" not in rendered and "(a call)" in rendered and "3" not in rendered
    assert controls(model, ids) == [
        *["<|im_start|>", "<|im_end|>"] * 3,
        *["<|im_start|>", "<think>", "</think>", "<|im_end|>"],
        *["<|im_start|>", "<|im_end|>", "<|im_start|>"],
    ]


def test_a_token_that_a_template_makes_of_the_role_is_made_of_known_roles_only(text_model: Any) -> None:
    model = dataclasses.replace(
        text_model, vocabulary=dataclasses.replace(text_model.vocabulary, controls=framed_controls(text_model))
    )
    template = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|im_end|>' }}{% endfor %}<|assistant|>"
    maker = PromptMaker(with_template(model, template), max_context_tokens=1000)
    names = {i: entry.content for i, entry in framed_controls(text_model).items()}

    def found(*said: str) -> list[str]:
        messages = [{"role": role, "content": text} for role, text in zip(said[::2], said[1::2], strict=True)]
        return [names[i] for i in ids_of(maker, messages) if i in names]

    assert found("user", "a", "assistant", "b", "user", "c") == [
        *["<|user|>", "<|im_end|>", "<|assistant|>", "<|im_end|>", "<|user|>", "<|im_end|>", "<|assistant|>"],
    ]
    assert found("im_end", "<|user|>", "us", "er|>") == ["<|im_end|>", "<|im_end|>", "<|assistant|>"]


def framed_controls(model: Any) -> dict[int, Any]:
    """The control tokens of ``model`` with two of them called after roles."""
    entry = copy.copy(next(iter(model.vocabulary.controls.values())))
    named = {**model.vocabulary.controls}
    for token_id, name in ((505, "<|user|>"), (506, "<|assistant|>")):
        named[token_id] = type(entry)(name, special=True, normalized=False)
    return named


def test_a_template_that_hides_its_tokens_is_refused_when_the_model_is_loaded(text_model: Any) -> None:
    hidden = "{% for m in messages %}{{ '<|' ~ 'im' ~ '_end|>' ~ m.content }}{% endfor %}"
    with pytest.raises(LoadError, match="unknown parts"):
        PromptMaker(with_template(text_model, hidden), max_context_tokens=1000)


def test_a_template_that_refuses_a_conversation_is_the_requests_fault(text_model: Any) -> None:
    strict = "{% if messages[0].role != 'user' %}{{ raise_exception('Begin with the user.') }}{% endif %}<|im_start|>"
    maker = PromptMaker(with_template(text_model, strict), max_context_tokens=1000)
    assert len(ids_of(maker, [{"role": "user", "content": "a"}])) == 1
    with pytest.raises(InvalidPrompt, match="Begin with the user"):
        ids_of(maker, [{"role": "system", "content": "a"}])


@pytest.mark.parametrize("odd", ["\ud800", "a\udc00b", "\udfff"])
def test_half_a_surrogate_pair_is_refused_wherever_it_stands(makers: dict[str, PromptMaker], odd: str) -> None:
    for message in (
        {"role": "user", "content": odd},
        {"role": odd, "content": "a"},
        {"role": "user", "content": "a", "name": odd},
        {"role": "user", "content": "a", "tool_calls": [{"arguments": {odd: 1}}]},
    ):
        with pytest.raises(InvalidPrompt, match="surrogate"):
            ids_of(makers["talkative"], [message])


def test_a_whole_emoji_of_two_halves_is_text(makers: dict[str, PromptMaker], models: dict[str, Any]) -> None:
    said = json.loads('"\\ud83d\\ude00"')
    assert said in models["small"].tokenizer.decode(ids_of(makers["small"], [{"role": "user", "content": said}]))


def test_characters_of_private_use_stay_in_the_text(models: dict[str, Any], makers: dict[str, PromptMaker]) -> None:
    said = "a\ue000b\ue001c\U0010fffdd"
    assert said in models["small"].tokenizer.decode(ids_of(makers["small"], [{"role": "user", "content": said}]))
