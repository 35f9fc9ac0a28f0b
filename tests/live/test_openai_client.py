"""The official ``openai`` package, unmodified, against a live server."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.live.stack import EmbeddedStack, Stack
from tests.media_samples import image_bytes

#: what the SDK does unless it is told otherwise: two more tries
RETRYING = 2
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


def bytes_of(tokens: list[Any]) -> bytes:
    return b"".join(bytes(token.bytes or ()) for token in tokens)


def test_logprobs_of_a_whole_answer_are_those_of_its_text(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny",
        messages=HELLO,
        max_tokens=15,
        temperature=1,
        seed=3,
        logprobs=True,
        top_logprobs=3,
        extra_body={"ignore_eos": True},
    )
    [choice] = answer.choices
    assert choice.logprobs is not None and choice.logprobs.content is not None
    assert bytes_of(choice.logprobs.content).decode(errors="replace") == choice.message.content
    assert answer.usage is not None and len(choice.logprobs.content) == answer.usage.completion_tokens == 15
    for token in choice.logprobs.content:
        likeliest = [other.logprob for other in token.top_logprobs]
        assert len(likeliest) == 3 and likeliest == sorted(likeliest, reverse=True)
        assert token.logprob <= likeliest[0] <= 0


def test_a_streams_chunks_have_the_logprobs_of_their_own_text(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "tiny",
        "messages": HELLO,
        "max_tokens": 60,
        "temperature": 1,
        "seed": 4,
        "logprobs": True,
        "top_logprobs": 1,
        "extra_body": {"ignore_eos": True},
    }
    whole = client.chat.completions.create(**asked).choices[0].logprobs
    seen: list[Any] = []
    for chunk in client.chat.completions.create(**asked, stream=True):
        [choice] = chunk.choices
        if choice.logprobs is not None:
            content = choice.logprobs.content or []
            assert bytes_of(content).decode(errors="replace") == choice.delta.content
            seen += content
        else:
            assert not choice.delta.content
    assert whole is not None and whole.content is not None
    assert [token.token for token in seen] == [token.token for token in whole.content]
    # The same place in another batch may differ in the last bits.
    for token, known in zip(seen, whole.content, strict=True):
        assert token.logprob == pytest.approx(known.logprob, abs=1e-4)


def test_a_bias_of_a_hundred_decides_and_one_of_minus_a_hundred_rules_out(client: openai.OpenAI) -> None:
    def tokens(**fields: Any) -> list[str]:
        answer = client.chat.completions.create(
            model="tiny",
            messages=HELLO,
            max_tokens=6,
            temperature=0,
            logprobs=True,
            **fields,
            extra_body={"ignore_eos": True},
        )
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None and logprobs.content is not None
        return [token.token for token in logprobs.content]

    # The first 256 tokens of the tiny model's tokenizer are single bytes, in the order of their printed forms.
    assert tokens(logit_bias={"32": 100}) == ["A"] * 6
    assert tokens(logit_bias={"32": 100}, frequency_penalty=2) == ["A"] * 6
    assert "A" not in tokens(logit_bias={"32": -100})


def test_a_frequency_penalty_makes_an_answer_repeat_itself_less(client: openai.OpenAI) -> None:
    def different(**fields: Any) -> int:
        answer = client.chat.completions.create(
            model="tiny",
            messages=HELLO,
            max_tokens=60,
            temperature=0,
            logprobs=True,
            extra_body={"ignore_eos": True, "logit_bias": {"32": 7, "33": 6, "34": 5}},
            **fields,
        )
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None and logprobs.content is not None
        return len({token.token for token in logprobs.content})

    assert different(frequency_penalty=2) > different()


def test_a_stop_token_ends_the_answer_and_is_not_in_it(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny",
        messages=HELLO,
        max_tokens=40,
        temperature=0,
        logit_bias={"32": 100},
        extra_body={"ignore_eos": True, "stop_token_ids": [32], "min_tokens": 0},
    )
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content == ""
    assert answer.usage is not None and answer.usage.completion_tokens == 1


def test_a_token_that_the_model_does_not_have_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="99999999") as refused:
        client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=5, logit_bias={"99999999": 1})
    assert refused.value.param == "logit_bias"


def test_several_answers_come_whole_and_the_first_is_the_one_alone(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "tiny",
        "messages": HELLO,
        "max_tokens": 20,
        "temperature": 1,
        "extra_body": {"ignore_eos": True},
    }
    alone = client.chat.completions.create(**asked, seed=5)
    several = client.chat.completions.create(**asked, seed=5, n=3)
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    assert several.choices[0].message.content == alone.choices[0].message.content
    assert len({choice.message.content for choice in several.choices}) == 3
    assert {choice.finish_reason for choice in several.choices} == {"length"}
    assert alone.usage is not None and several.usage is not None
    assert several.usage.prompt_tokens == alone.usage.prompt_tokens
    assert several.usage.completion_tokens == 60


def test_several_answers_are_streamed_by_their_index(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "tiny",
        "messages": HELLO,
        "max_tokens": 400,
        "temperature": 1,
        "seed": 6,
        "n": 3,
        "logprobs": True,
        # They end at different times, and none by its length: the package's helper makes an error of that.
        "extra_body": {"stop_token_ids": list(range(60))},
    }
    whole = client.chat.completions.create(**asked)
    with client.chat.completions.stream(**asked) as stream:
        final = stream.get_final_completion()
    assert [choice.index for choice in final.choices] == [0, 1, 2]
    assert len({len(choice.message.content or "") for choice in final.choices}) > 1
    for streamed, known in zip(final.choices, whole.choices, strict=True):
        assert streamed.message.content == known.message.content
        assert streamed.finish_reason == known.finish_reason
        assert streamed.logprobs is not None and streamed.logprobs.content is not None
        assert known.logprobs is not None and known.logprobs.content is not None
        assert [t.token for t in streamed.logprobs.content] == [t.token for t in known.logprobs.content]


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


def sessions_of(server: Stack) -> int:
    return int(server.query("SELECT count(*) FROM sessions_app_chatsession")[0][0])


def requests_in(server: Stack, line: str) -> int:
    return server.logs().count(line)


def test_an_answer_that_takes_too_long_is_asked_for_once_and_generated_once(
    start_embedded: Callable[..., EmbeddedStack],
) -> None:
    server = start_embedded(ANSWER_TIMEOUT_SECONDS=1)
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="unused", max_retries=RETRYING) as client:
        with pytest.raises(openai.InternalServerError) as refused:
            client.chat.completions.create(
                model="tiny", messages=HELLO, max_tokens=3500, extra_body={"ignore_eos": True, "min_tokens": 3500}
            )
        assert refused.value.status_code == 504
        assert sessions_of(server) == 1
        with pytest.raises(openai.ConflictError):
            session_id = refused.value.response.headers["X-Session-ID"]
            client.chat.completions.create(model="tiny", messages=HELLO, extra_body={"session_id": session_id})
    assert requests_in(server, "POST /v1/chat/completions 504") == 1
    assert requests_in(server, "POST /v1/chat/completions 409") == 1


def test_a_full_queue_is_tried_again_by_the_sdk(start_embedded: Callable[..., EmbeddedStack]) -> None:
    server = start_embedded(MAX_OPEN_STREAMS=1)
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="unused", max_retries=RETRYING) as client:
        asked: dict[str, Any] = {"model": "tiny", "messages": HELLO, "stream": True, "extra_body": {"ignore_eos": True}}
        # Eight answers: the one stream must be open for longer than the SDK tries.
        with client.chat.completions.create(**asked, max_tokens=3500, n=8) as first:
            next(iter(first))
            with pytest.raises(openai.InternalServerError) as refused:
                client.chat.completions.create(**asked, max_tokens=5)
    assert refused.value.code == "too_many_streams"
    assert requests_in(server, "POST /v1/chat/completions 503") == 1 + RETRYING
    assert sessions_of(server) == 1
