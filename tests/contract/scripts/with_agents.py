"""OpenAI's Agents SDK over Chat Completions: agents with tools, output types and streams."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from agents import (
    Agent,
    AgentOutputSchema,
    ModelSettings,
    OpenAIChatCompletionsModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from agents.items import ReasoningItem, ToolCallItem
from agents.result import RunResultBase
from contract import QUESTION, ROOM, TRIES, Person, Server, called, refusal_of, serve
from openai import AsyncOpenAI
from openai.types.shared import Reasoning

# Traces go to OpenAI.
set_tracing_disabled(True)

#: one for all cases: the clients keep their connections
LOOP = asyncio.new_event_loop()


@function_tool
def weather(city: Literal["Solo", "Bogor"]) -> str:
    """The weather of a city."""
    return f"{city}: hujan"


@function_tool
def time(zone: Literal["WIB", "WITA", "WIT"]) -> str:
    """The time of a zone."""
    return f"{zone}: 10.00"


def agent_of(server: Server, *, model: str = "", key: str = "", **options: Any) -> Agent[Any]:
    settings = ModelSettings(**{"max_tokens": ROOM} | options.pop("settings", {}))
    client = AsyncOpenAI(base_url=server.base_url, api_key=key or server.api_key)
    served = OpenAIChatCompletionsModel(model=model or server.model, openai_client=client)
    return Agent(name="reader", model=served, model_settings=settings, **options)


def run(agent: Agent[Any], question: Any = QUESTION) -> RunResultBase:
    return LOOP.run_until_complete(Runner.run(agent, question))


def streamed(agent: Agent[Any], *, pieces: int | None = None) -> tuple[list[str], RunResultBase]:
    """The pieces of the text, at most so many, and the result."""

    async def read() -> tuple[list[str], RunResultBase]:
        result = Runner.run_streamed(agent, QUESTION)
        found: list[str] = []
        async for event in result.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                found.append(event.data.delta)
            if len(found) == pieces:
                result.cancel()
                break
        return [piece for piece in found if piece], result

    return LOOP.run_until_complete(read())


def calls_in(result: RunResultBase) -> list[Any]:
    items = [item.raw_item for item in result.new_items if isinstance(item, ToolCallItem)]
    return [called(item.name, item.arguments) for item in items]


def chat(server: Server) -> Any:
    result = run(agent_of(server, settings={"max_tokens": 20}))
    usage = result.context_wrapper.usage
    return {"text": result.final_output, "finish_reason": None, "usage": [usage.input_tokens, usage.output_tokens]}


def stream(server: Server) -> Any:
    agent = agent_of(server, settings={"max_tokens": 20, "temperature": 0, "include_usage": True})
    pieces, result = streamed(agent)
    usage = result.context_wrapper.usage
    return {
        "pieces": pieces,
        "whole": run(agent).final_output,
        "usage": [usage.input_tokens, usage.output_tokens],
    }


def tool_loop(server: Server) -> Any:
    result = run(agent_of(server, tools=[weather, time], settings={"tool_choice": "weather"}))
    return {"calls": calls_in(result), "answer": result.final_output}


def stream_call(server: Server) -> Any:
    _, result = streamed(agent_of(server, tools=[weather, time], settings={"tool_choice": "required"}))
    return {"calls": calls_in(result)}


def parallel_calls(server: Server) -> Any:
    for seed in range(TRIES):
        settings = {"tool_choice": "required", "temperature": 1, "extra_args": {"seed": seed}}
        result = run(agent_of(server, tools=[weather, time], settings=settings))
        if len(result.raw_responses[0].output) > 1:
            break
    return {"calls": calls_in(result), "answer": result.final_output}


def parse(server: Server) -> Any:
    return run(
        agent_of(server, output_type=AgentOutputSchema(Person, strict_json_schema=True))
    ).final_output.model_dump()


def stream_parse(server: Server) -> Any:
    pieces, result = streamed(agent_of(server, output_type=Person))
    return {"partial": len(pieces), "value": result.final_output.model_dump()}


def logprobs(server: Server) -> Any:
    result = run(agent_of(server, settings={"max_tokens": 10, "top_logprobs": 2}))
    content = result.raw_responses[0].output[0].content[0].logprobs
    return {
        "text": result.final_output,
        "tokens": [token.token for token in content],
        "logprobs": [token.logprob for token in content],
        "tops": [len(token.top_logprobs) for token in content],
    }


def thinking(server: Server) -> Any:
    def think(**settings: Any) -> Any:
        result = run(agent_of(server, settings={"max_tokens": None} | settings))
        thoughts = [item.raw_item for item in result.new_items if isinstance(item, ReasoningItem)]
        return {
            "reasoning": "".join(summary.text for thought in thoughts for summary in thought.summary),
            "text": result.final_output,
            "reasoning_tokens": result.context_wrapper.usage.output_tokens_details.reasoning_tokens,
        }

    return {
        "on": think(reasoning=Reasoning(effort="high")),
        "off": think(extra_body={"chat_template_kwargs": {"enable_thinking": False}}),
        "budget": think(extra_body={"thinking_token_budget": 5}),
    }


def vision(server: Server) -> Any:
    def look(url: str) -> str:
        content = [
            {"type": "input_text", "text": "Apa ini?"},
            {"type": "input_image", "image_url": url, "detail": "auto"},
        ]
        agent = agent_of(server, settings={"max_tokens": 20, "temperature": 0})
        return run(agent, [{"role": "user", "content": content}]).final_output

    return {"red": look(server.red), "blue": look(server.blue)}


def errors(server: Server) -> Any:
    return {
        "unknown_model": refusal_of(lambda: run(agent_of(server, model="gpt-none"))),
        "bad_value": refusal_of(lambda: run(agent_of(server, settings={"temperature": 3}))),
        "wrong_key": refusal_of(lambda: run(agent_of(server, key="another-key"))),
    }


def retry(server: Server) -> Any:
    pieces, _ = streamed(agent_of(server, settings={"max_tokens": None}))
    return {"pieces": pieces}


def resume(server: Server) -> Any:
    asked = {"max_tokens": 400, "extra_body": {"session_id": server.session_id, "ignore_eos": True}}
    before, _ = streamed(agent_of(server, settings=asked), pieces=3)
    seen = {"extra_headers": {"Last-Event-ID": f"{server.session_id}:{len(before)}"}}
    rest, _ = streamed(agent_of(server, settings=asked | seen))
    return {"before": before, "rest": rest, "whole": run(agent_of(server, settings=asked)).final_output}


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
