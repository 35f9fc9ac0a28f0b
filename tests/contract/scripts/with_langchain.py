"""LangChain for Python: ``ChatOpenAI`` with another base URL."""

from __future__ import annotations

from typing import Any

from contract import QUESTION, ROOM, TRIES, Person, Server, Time, Weather, called, refusal_of, serve
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

HELLO = [HumanMessage(QUESTION)]


@tool(args_schema=Weather)
def weather(city: str) -> str:
    """The weather of a city."""
    return f"{city}: hujan"


@tool(args_schema=Time)
def time(zone: str) -> str:
    """The time of a zone."""
    return f"{zone}: 10.00"


TOOLS = [weather, time]


def model_of(server: Server, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(base_url=server.base_url, api_key=server.api_key, model=server.model, **options)


def calls_in(message: AIMessage) -> list[Any]:
    return [called(call["name"], call["args"]) for call in message.tool_calls]


def results_of(message: AIMessage) -> list[ToolMessage]:
    return [(weather if call["name"] == "weather" else time).invoke(call) for call in message.tool_calls]


def chat(server: Server) -> Any:
    answer = model_of(server, max_tokens=20).invoke(QUESTION)
    return {
        "text": answer.text,
        "finish_reason": answer.response_metadata["finish_reason"],
        "usage": [answer.usage_metadata["input_tokens"], answer.usage_metadata["output_tokens"]],
    }


def stream(server: Server) -> Any:
    model = model_of(server, max_tokens=20, temperature=0, stream_usage=True)
    chunks = list(model.stream(QUESTION))
    usage = next(chunk.usage_metadata for chunk in chunks if chunk.usage_metadata)
    return {
        "pieces": [chunk.text for chunk in chunks if chunk.text],
        "whole": model.invoke(QUESTION).text,
        "usage": [usage["input_tokens"], usage["output_tokens"]],
    }


def tool_loop(server: Server) -> Any:
    model = model_of(server, max_tokens=ROOM)
    message = model.bind_tools(TOOLS, tool_choice="weather", strict=True).invoke(HELLO)
    answer = model.bind_tools(TOOLS).invoke([*HELLO, message, *results_of(message)], max_tokens=20)
    return {"calls": calls_in(message), "answer": answer.text}


def stream_call(server: Server) -> Any:
    model = model_of(server, max_tokens=ROOM).bind_tools(TOOLS, tool_choice="required", strict=True)
    whole = None
    for chunk in model.stream(HELLO):
        whole = chunk if whole is None else whole + chunk
    return {"calls": calls_in(whole)}


def parallel_calls(server: Server) -> Any:
    model = model_of(server, max_tokens=ROOM, temperature=1)
    for seed in range(TRIES):
        message = model.bind_tools(TOOLS, tool_choice="required", strict=True, seed=seed).invoke(HELLO)
        if message.response_metadata["finish_reason"] == "tool_calls" and len(message.tool_calls) > 1:
            break
    answer = model.bind_tools(TOOLS).invoke([*HELLO, message, *results_of(message)], max_tokens=20)
    return {"calls": calls_in(message), "answer": answer.text}


def parse(server: Server) -> Any:
    model = model_of(server, max_tokens=ROOM).with_structured_output(Person, method="json_schema")
    return model.invoke(QUESTION).model_dump()


def stream_parse(server: Server) -> Any:
    model = model_of(server, max_tokens=ROOM).with_structured_output(Person.model_json_schema(), method="json_schema")
    values = list(model.stream(QUESTION))
    return {"partial": len(values), "value": values[-1]}


def logprobs(server: Server) -> Any:
    answer = model_of(server, max_tokens=10, logprobs=True, top_logprobs=2).invoke(QUESTION)
    content = answer.response_metadata["logprobs"]["content"]
    return {
        "text": answer.text,
        "tokens": [token["token"] for token in content],
        "logprobs": [token["logprob"] for token in content],
        "tops": [len(token["top_logprobs"]) for token in content],
    }


def thinking(server: Server) -> Any:
    def think(**options: Any) -> Any:
        answer = model_of(server, **options).invoke(QUESTION)
        tokens = answer.usage_metadata["output_token_details"]["reasoning"]
        return {"reasoning": None, "text": answer.text, "reasoning_tokens": tokens}

    return {
        "on": think(reasoning_effort="high"),
        "off": think(extra_body={"chat_template_kwargs": {"enable_thinking": False}}),
        "budget": think(extra_body={"thinking_token_budget": 5}),
    }


def vision(server: Server) -> Any:
    def look(url: str) -> str:
        content = [{"type": "text", "text": "Apa ini?"}, {"type": "image_url", "image_url": {"url": url}}]
        return model_of(server, max_tokens=20, temperature=0).invoke([HumanMessage(content)]).text

    return {"red": look(server.red), "blue": look(server.blue)}


def errors(server: Server) -> Any:
    def ask(**options: Any) -> Any:
        return refusal_of(
            lambda: ChatOpenAI(**{"base_url": server.base_url, "api_key": server.api_key} | options).invoke(QUESTION)
        )

    return {
        "unknown_model": ask(model="gpt-none"),
        "bad_value": ask(model=server.model, temperature=3),
        "wrong_key": ask(model=server.model, api_key="another-key"),
    }


def retry(server: Server) -> Any:
    return {"pieces": [chunk.text for chunk in model_of(server).stream(QUESTION) if chunk.text]}


def resume(server: Server) -> Any:
    model = model_of(server, max_tokens=400, extra_body={"session_id": server.session_id, "ignore_eos": True})
    before = []
    for chunk in model.stream(QUESTION):
        if chunk.text:
            before.append(chunk.text)
        if len(before) == 3:
            break
    seen = {"Last-Event-ID": f"{server.session_id}:{len(before)}"}
    rest = [chunk.text for chunk in model.stream(QUESTION, extra_headers=seen)]
    return {"before": before, "rest": rest, "whole": model.invoke(QUESTION).text}


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
