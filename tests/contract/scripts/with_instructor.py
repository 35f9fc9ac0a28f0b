"""Instructor over OpenAI's package: answers are pydantic models, by forced calls or by schema."""

from __future__ import annotations

from typing import Any

import instructor
from contract import QUESTION, ROOM, Person, Server, Weather, called, refusal_of, serve
from openai import OpenAI

HELLO: list[Any] = [{"role": "user", "content": QUESTION}]


def client_of(server: Server, mode: instructor.Mode = instructor.Mode.JSON_SCHEMA) -> Any:
    return instructor.from_openai(OpenAI(base_url=server.base_url, api_key=server.api_key), mode=mode)


def chat(server: Server) -> Any:
    answer = client_of(server).chat.completions.create(
        model=server.model, messages=HELLO, max_tokens=20, response_model=None
    )
    return {
        "text": answer.choices[0].message.content,
        "finish_reason": answer.choices[0].finish_reason,
        "usage": [answer.usage.prompt_tokens, answer.usage.completion_tokens],
    }


def forced_call(server: Server) -> Any:
    client = client_of(server, instructor.Mode.TOOLS)
    weather = client.chat.completions.create(
        model=server.model, messages=HELLO, max_tokens=ROOM, response_model=Weather
    )
    return {"calls": [called("weather", weather.model_dump())]}


def stream_call(server: Server) -> Any:
    client = client_of(server, instructor.Mode.TOOLS)
    asked: dict[str, Any] = {"model": server.model, "messages": HELLO, "max_tokens": ROOM}
    *_, weather = client.chat.completions.create_partial(**asked, response_model=Weather)
    return {"calls": [called("weather", weather.model_dump())]}


def parse(server: Server) -> Any:
    person = client_of(server).chat.completions.create(
        model=server.model, messages=HELLO, max_tokens=ROOM, response_model=Person
    )
    return person.model_dump()


def stream_parse(server: Server) -> Any:
    asked: dict[str, Any] = {"model": server.model, "messages": HELLO, "max_tokens": ROOM}
    people = list(client_of(server).chat.completions.create_partial(**asked, response_model=Person))
    return {"partial": len(people), "value": people[-1].model_dump()}


def vision(server: Server) -> Any:
    def look(url: str) -> str:
        content = ["Apa ini?", instructor.Image.from_base64(url)]
        person = client_of(server).chat.completions.create(
            model=server.model,
            messages=[{"role": "user", "content": content}],
            max_tokens=ROOM,
            temperature=0,
            response_model=Person,
        )
        return person.model_dump_json()

    return {"red": look(server.red), "blue": look(server.blue)}


def thinking(server: Server) -> Any:
    def think(**fields: Any) -> Any:
        _, answer = client_of(server).chat.completions.create_with_completion(
            model=server.model, messages=HELLO, max_tokens=ROOM, response_model=Person, **fields
        )
        message = answer.choices[0].message
        return {
            "reasoning": message.model_extra.get("reasoning_content"),
            "text": message.content,
            "reasoning_tokens": answer.usage.completion_tokens_details.reasoning_tokens,
        }

    return {
        "on": think(reasoning_effort="high"),
        "off": think(extra_body={"chat_template_kwargs": {"enable_thinking": False}}),
        "budget": think(extra_body={"thinking_token_budget": 5}),
    }


def errors(server: Server) -> Any:
    def ask(key: str = server.api_key, **fields: Any) -> Any:
        client = instructor.from_openai(OpenAI(base_url=server.base_url, api_key=key), mode=instructor.Mode.JSON_SCHEMA)
        asked = {"model": server.model, "messages": HELLO, "response_model": Person, "max_retries": 0} | fields
        return refusal_of(lambda: client.chat.completions.create(**asked))

    return {
        "unknown_model": ask(model="gpt-none"),
        "bad_value": ask(temperature=3),
        "wrong_key": ask(key="another-key"),
    }


def retry(server: Server) -> Any:
    asked: dict[str, Any] = {"model": server.model, "messages": HELLO, "max_tokens": ROOM, "reasoning_effort": "none"}
    *_, person = client_of(server).chat.completions.create_partial(**asked, response_model=Person)
    return {"pieces": [person.model_dump_json()]}


serve(
    {
        "chat": chat,
        "forced_call": forced_call,
        "stream_call": stream_call,
        "parse": parse,
        "stream_parse": stream_parse,
        "thinking": thinking,
        "vision": vision,
        "errors": errors,
        "retry": retry,
    }
)
