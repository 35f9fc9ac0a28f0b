"""LiteLLM: the package's ``completion``, and its router."""

from __future__ import annotations

import os
from typing import Any

# Otherwise it asks the internet for a list of prices.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
from contract import QUESTION, ROOM, TIME, TRIES, WEATHER, Person, Server, called, refusal_of, serve

HELLO = [{"role": "user", "content": QUESTION}]


def ask(server: Server, **fields: Any) -> Any:
    model = f"openai/{fields.pop('model', server.model)}"
    return litellm.completion(
        **{"model": model, "api_base": server.base_url, "api_key": server.api_key, "messages": HELLO} | fields
    )


def chat(server: Server) -> Any:
    answer = ask(server, max_tokens=20)
    return {
        "text": answer.choices[0].message.content,
        "finish_reason": answer.choices[0].finish_reason,
        "usage": [answer.usage.prompt_tokens, answer.usage.completion_tokens],
    }


def stream(server: Server) -> Any:
    asked: dict[str, Any] = {"max_tokens": 20, "temperature": 0}
    chunks = list(ask(server, **asked, stream=True, stream_options={"include_usage": True}))
    usage = next(chunk.usage for chunk in chunks if getattr(chunk, "usage", None))
    return {
        "pieces": [
            chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content
        ],
        "whole": ask(server, **asked).choices[0].message.content,
        "usage": [usage.prompt_tokens, usage.completion_tokens],
    }


def calls_in(message: Any) -> list[Any]:
    return [called(call.function.name, call.function.arguments) for call in message.tool_calls]


def answer_to(server: Server, message: Any) -> str:
    results = [{"role": "tool", "tool_call_id": call.id, "content": "hujan"} for call in message.tool_calls]
    answer = ask(server, messages=[*HELLO, message, *results], tools=[WEATHER, TIME], max_tokens=20)
    return answer.choices[0].message.content


def tool_loop(server: Server) -> Any:
    named = {"type": "function", "function": {"name": "weather"}}
    message = ask(server, tools=[WEATHER, TIME], tool_choice=named, max_tokens=ROOM).choices[0].message
    return {"calls": calls_in(message), "answer": answer_to(server, message)}


def stream_call(server: Server) -> Any:
    chunks = list(ask(server, tools=[WEATHER, TIME], tool_choice="required", max_tokens=ROOM, stream=True))
    return {"calls": calls_in(litellm.stream_chunk_builder(chunks, messages=HELLO).choices[0].message)}


def parallel_calls(server: Server) -> Any:
    for seed in range(TRIES):
        answer = ask(
            server, tools=[WEATHER, TIME], tool_choice="required", max_tokens=ROOM, seed=seed, temperature=1
        ).choices[0]
        if answer.finish_reason == "tool_calls" and len(answer.message.tool_calls) > 1:
            break
    return {"calls": calls_in(answer.message), "answer": answer_to(server, answer.message)}


def parse(server: Server) -> Any:
    answer = ask(server, max_tokens=ROOM, response_format=Person)
    return Person.model_validate_json(answer.choices[0].message.content).model_dump()


def stream_parse(server: Server) -> Any:
    chunks = [
        chunk.choices[0].delta.content
        for chunk in ask(server, max_tokens=ROOM, response_format=Person, stream=True)
        if chunk.choices[0].delta.content
    ]
    return {"partial": len(chunks), "value": Person.model_validate_json("".join(chunks)).model_dump()}


def logprobs(server: Server) -> Any:
    choice = ask(server, max_tokens=10, logprobs=True, top_logprobs=2).choices[0]
    content = choice.logprobs.content
    return {
        "text": choice.message.content,
        "tokens": [token.token for token in content],
        "logprobs": [token.logprob for token in content],
        "tops": [len(token.top_logprobs) for token in content],
    }


def thinking(server: Server) -> Any:
    def think(**fields: Any) -> Any:
        answer = ask(server, **fields)
        message = answer.choices[0].message
        return {
            "reasoning": getattr(message, "reasoning_content", None),
            "text": message.content,
            "reasoning_tokens": answer.usage.completion_tokens_details.reasoning_tokens,
        }

    return {
        # Of models that it does not know it has to be told that they may be asked for an effort.
        "on": think(reasoning_effort="high", allowed_openai_params=["reasoning_effort"]),
        "off": think(extra_body={"chat_template_kwargs": {"enable_thinking": False}}),
        "budget": think(extra_body={"thinking_token_budget": 5}),
    }


def vision(server: Server) -> Any:
    def look(url: str) -> str:
        content = [{"type": "text", "text": "Apa ini?"}, {"type": "image_url", "image_url": {"url": url}}]
        answer = ask(server, messages=[{"role": "user", "content": content}], max_tokens=20, temperature=0)
        return answer.choices[0].message.content

    return {"red": look(server.red), "blue": look(server.blue)}


def errors(server: Server) -> Any:
    return {
        "unknown_model": refusal_of(lambda: ask(server, model="gpt-none")),
        "bad_value": refusal_of(lambda: ask(server, temperature=3)),
        "wrong_key": refusal_of(lambda: ask(server, api_key="another-key")),
    }


def retry(server: Server) -> Any:
    chunks = ask(server, stream=True, num_retries=2)
    return {"pieces": [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]}


def resume(server: Server) -> Any:
    asked: dict[str, Any] = {"max_tokens": 400, "extra_body": {"session_id": server.session_id, "ignore_eos": True}}
    before = []
    for chunk in ask(server, **asked, stream=True):
        if chunk.choices[0].delta.content:
            before.append(chunk.choices[0].delta.content)
        if len(before) == 3:
            break
    seen = {"Last-Event-ID": f"{server.session_id}:{len(before)}"}
    rest = [chunk.choices[0].delta.content or "" for chunk in ask(server, **asked, stream=True, extra_headers=seen)]
    return {"before": before, "rest": rest, "whole": ask(server, **asked).choices[0].message.content}


def router(server: Server) -> Any:
    """One deployment behind the router: it answers after a bad request as before."""
    params = {"model": f"openai/{server.model}", "api_base": server.base_url, "api_key": server.api_key}
    router = litellm.Router(model_list=[{"model_name": "reader", "litellm_params": params}])
    bad = refusal_of(lambda: router.completion(model="reader", messages=HELLO, temperature=3))
    return {"bad_value": bad, "text": router.completion(model="reader", messages=HELLO).choices[0].message.content}


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
        "router": router,
    }
)
