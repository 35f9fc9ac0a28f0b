"""OpenAI's Python package, the same script for its versions 1, 2 and 3."""

from __future__ import annotations

from typing import Any

from contract import QUESTION, ROOM, TIME, TRIES, WEATHER, Person, Server, called, refusal_of, serve
from openai import OpenAI

HELLO: list[Any] = [{"role": "user", "content": QUESTION}]


def client_of(server: Server) -> OpenAI:
    return OpenAI(base_url=server.base_url, api_key=server.api_key)


def chat(server: Server) -> Any:
    answer = client_of(server).chat.completions.create(model=server.model, messages=HELLO, max_tokens=20)
    return {
        "text": answer.choices[0].message.content,
        "finish_reason": answer.choices[0].finish_reason,
        "usage": [answer.usage.prompt_tokens, answer.usage.completion_tokens],
    }


def stream(server: Server) -> Any:
    asked: dict[str, Any] = {"model": server.model, "messages": HELLO, "max_tokens": 20, "temperature": 0}
    client = client_of(server)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    whole = client.chat.completions.create(**asked)
    return {
        "pieces": [
            chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content
        ],
        "whole": whole.choices[0].message.content,
        "usage": [chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens],
    }


def tool_loop(server: Server) -> Any:
    client = client_of(server)
    asked: dict[str, Any] = {"model": server.model, "tools": [WEATHER, TIME], "max_tokens": ROOM}
    named = {"type": "function", "function": {"name": "weather"}}
    message = client.chat.completions.create(**asked, messages=HELLO, tool_choice=named).choices[0].message
    results = [{"role": "tool", "tool_call_id": call.id, "content": "hujan"} for call in message.tool_calls]
    answer = client.chat.completions.create(**asked | {"max_tokens": 20}, messages=[*HELLO, message, *results])
    return {
        "calls": [called(call.function.name, call.function.arguments) for call in message.tool_calls],
        "answer": answer.choices[0].message.content,
    }


def stream_call(server: Server) -> Any:
    asked: dict[str, Any] = {"model": server.model, "messages": HELLO, "tools": [WEATHER, TIME], "max_tokens": ROOM}
    with client_of(server).chat.completions.stream(**asked, tool_choice="required") as events:
        done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    return {"calls": [called(event.name, event.arguments) for event in done]}


def parallel_calls(server: Server) -> Any:
    client = client_of(server)
    asked: dict[str, Any] = {
        "model": server.model,
        "messages": HELLO,
        "tools": [WEATHER, TIME],
        "max_tokens": ROOM,
        "temperature": 1,
    }
    for seed in range(TRIES):
        answer = client.chat.completions.create(**asked, tool_choice="required", seed=seed)
        message = answer.choices[0].message
        if answer.choices[0].finish_reason == "tool_calls" and len(message.tool_calls) > 1:
            break
    results = [{"role": "tool", "tool_call_id": call.id, "content": "hujan"} for call in message.tool_calls]
    last = client.chat.completions.create(**asked | {"messages": [*HELLO, message, *results], "max_tokens": 20})
    return {
        "calls": [called(call.function.name, call.function.arguments) for call in message.tool_calls],
        "answer": last.choices[0].message.content,
    }


def parse(server: Server) -> Any:
    answer = client_of(server).chat.completions.parse(
        model=server.model, messages=HELLO, max_tokens=ROOM, response_format=Person
    )
    return answer.choices[0].message.parsed.model_dump()


def stream_parse(server: Server) -> Any:
    asked: dict[str, Any] = {"model": server.model, "messages": HELLO, "max_tokens": ROOM, "response_format": Person}
    with client_of(server).chat.completions.stream(**asked) as events:
        partial = [event.parsed for event in events if event.type == "content.delta" and event.parsed]
        parsed = events.get_final_completion().choices[0].message.parsed
    return {"partial": len(partial), "value": parsed.model_dump()}


def logprobs(server: Server) -> Any:
    answer = client_of(server).chat.completions.create(
        model=server.model, messages=HELLO, max_tokens=10, logprobs=True, top_logprobs=2
    )
    content = answer.choices[0].logprobs.content
    return {
        "text": answer.choices[0].message.content,
        "tokens": [token.token for token in content],
        "logprobs": [token.logprob for token in content],
        "tops": [len(token.top_logprobs) for token in content],
    }


def thinking(server: Server) -> Any:
    def think(**fields: Any) -> Any:
        answer = client_of(server).chat.completions.create(model=server.model, messages=HELLO, **fields)
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


def vision(server: Server) -> Any:
    def look(url: str) -> str:
        content = [{"type": "text", "text": "Apa ini?"}, {"type": "image_url", "image_url": {"url": url}}]
        answer = client_of(server).chat.completions.create(
            model=server.model, messages=[{"role": "user", "content": content}], max_tokens=20, temperature=0
        )
        return answer.choices[0].message.content

    return {"red": look(server.red), "blue": look(server.blue)}


def errors(server: Server) -> Any:
    ask = client_of(server).chat.completions.create
    stranger = OpenAI(base_url=server.base_url, api_key="another-key").chat.completions.create
    return {
        "unknown_model": refusal_of(lambda: ask(model="gpt-none", messages=HELLO)),
        "bad_value": refusal_of(lambda: ask(model=server.model, messages=HELLO, temperature=3)),
        "wrong_key": refusal_of(lambda: stranger(model=server.model, messages=HELLO)),
    }


def retry(server: Server) -> Any:
    chunks = client_of(server).chat.completions.create(model=server.model, messages=HELLO, stream=True)
    return {"pieces": [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]}


def resume(server: Server) -> Any:
    create = client_of(server).chat.completions.create
    asked: dict[str, Any] = {"model": server.model, "messages": HELLO, "max_tokens": 400, "stream": True}
    asked["extra_body"] = {"session_id": server.session_id, "ignore_eos": True}
    before = []
    with create(**asked) as broken_off:
        for chunk in broken_off:
            if chunk.choices[0].delta.content:
                before.append(chunk.choices[0].delta.content)
            if len(before) == 3:
                break
    seen = {"Last-Event-ID": f"{server.session_id}:{len(before)}"}
    rest = [chunk.choices[0].delta.content or "" for chunk in create(**asked, extra_headers=seen)]
    whole = create(**asked | {"stream": False})
    return {"before": before, "rest": rest, "whole": whole.choices[0].message.content}


serve(
    {
        "chat": chat,
        "stream": stream,
        "tool_loop": tool_loop,
        "stream_call": stream_call,
        "parallel_calls": parallel_calls,
        "parse": parse,
        "stream_parse": stream_parse,
        "logprobs": logprobs,
        "thinking": thinking,
        "vision": vision,
        "errors": errors,
        "retry": retry,
        "resume": resume,
    }
)
