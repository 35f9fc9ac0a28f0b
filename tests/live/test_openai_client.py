"""The official ``openai`` package, unmodified, against a live server."""

from __future__ import annotations

import base64
from typing import Any

import openai
import pytest

from tests.live.stack import Stack
from tests.media_samples import image_bytes

HELLO: list[Any] = [{"role": "user", "content": "Halo, siapa kamu?"}]


def test_a_chat_is_answered_with_real_token_counts(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=12, extra_body={"ignore_eos": True}
    )
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12
    assert answer.usage.prompt_tokens > 10
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12


def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "messages": HELLO, "max_tokens": 30, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert all(chunk.usage is None for chunk in chunks)


def test_usage_comes_in_a_chunk_of_its_own_when_asked_for(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="tiny",
            messages=HELLO,
            max_tokens=9,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"ignore_eos": True},
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 9


def test_the_same_seed_gives_the_same_text_and_another_seed_another(client: openai.OpenAI) -> None:
    def answer(seed: int) -> str | None:
        asked = client.chat.completions.create(
            model="tiny", messages=HELLO, max_tokens=30, temperature=1, seed=seed, extra_body={"ignore_eos": True}
        )
        return asked.choices[0].message.content

    assert answer(7) == answer(7)
    assert answer(7) != answer(8)


def test_generation_ends_before_a_stop_string(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "tiny",
        "messages": HELLO,
        "max_tokens": 40,
        "temperature": 0,
        "extra_body": {"ignore_eos": True},
    }
    text = client.chat.completions.create(**asked).choices[0].message.content or ""
    stop = text[10:13]
    stopped = client.chat.completions.create(**asked, stop=stop).choices[0]
    assert stopped.finish_reason == "stop"
    assert stopped.message.content == text[: text.index(stop)]


def test_an_image_part_is_seen(client: openai.OpenAI) -> None:
    def tokens_and_text(colour: tuple[int, int, int]) -> tuple[int, str | None]:
        image = base64.b64encode(image_bytes((96, 64), color=colour)).decode()
        parts: Any = [
            {"type": "text", "text": "Apa ini?"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}},
        ]
        answer = client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": parts}], max_tokens=24, temperature=0
        )
        assert answer.usage is not None
        return answer.usage.prompt_tokens, answer.choices[0].message.content

    red, blue = tokens_and_text((255, 0, 0)), tokens_and_text((0, 0, 255))
    without = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "Apa ini?"}], max_tokens=1
    )
    assert without.usage is not None
    assert red[0] > without.usage.prompt_tokens
    assert red[1] != blue[1]


def test_the_served_model_is_listed_and_can_be_looked_up(client: openai.OpenAI) -> None:
    listed = client.models.list().data
    assert [model.id for model in listed] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"


def test_an_unknown_model_is_a_not_found_error_with_openais_code(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="gpt-none", messages=HELLO)
    assert refused.value.code == "model_not_found"
    assert refused.value.param == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-none")


def test_a_parameter_that_is_not_honoured_is_refused_by_name(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="tiny", messages=HELLO, prediction={"type": "content", "content": "x"})
    assert refused.value.param == "prediction"
    assert refused.value.code == "unsupported_parameter"


def test_the_session_and_request_ids_are_in_the_headers(client: openai.OpenAI, server: Stack) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="tiny", messages=HELLO, max_tokens=3, extra_headers={"X-Request-ID": "from-the-caller.1"}
    )
    session_id = raw.headers["x-session-id"]
    assert raw.headers["x-request-id"] == "from-the-caller.1"
    assert server.query("SELECT state, request_id FROM sessions_app_chatsession WHERE id = ?", session_id) == [
        ("completed", "from-the-caller.1")
    ]
