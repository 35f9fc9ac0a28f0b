"""Pydantic AI: agents over ``OpenAIChatModel`` with another base URL."""

from __future__ import annotations

from typing import Any, Literal

from contract import QUESTION, ROOM, TRIES, Person, Server, called, refusal_of, serve
from pydantic_ai import Agent, BinaryContent, NativeOutput, RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import ModelResponse, TextPart, ThinkingPart, ToolCallPart
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIChatModelSettings
from pydantic_ai.providers.openai import OpenAIProvider


class FirstCall(AbstractCapability[None]):
    """Have the first step call a function, and the next one answer; each within its limit of tokens."""

    def __init__(self, choice: Any, limits: tuple[int | None, int | None] = (ROOM, 20)) -> None:
        self._choices = (choice, "none")
        self._limits = limits

    def get_model_settings(self) -> Any:
        def settings(context: RunContext[None]) -> OpenAIChatModelSettings:
            step = min(context.run_step, 2) - 1
            limit = self._limits[step]
            return {"tool_choice": self._choices[step]} | ({} if limit is None else {"max_tokens": limit})

        return settings


def weather(city: Literal["Solo", "Bogor"]) -> str:
    """The weather of a city."""
    return f"{city}: hujan"


def time(zone: Literal["WIB", "WITA", "WIT"]) -> str:
    """The time of a zone."""
    return f"{zone}: 10.00"


def model_of(server: Server, name: str = "", key: str = "") -> OpenAIChatModel:
    provider = OpenAIProvider(base_url=server.base_url, api_key=key or server.api_key)
    return OpenAIChatModel(name or server.model, provider=provider)


def calls_in(responses: list[ModelResponse]) -> list[Any]:
    parts = [part for response in responses for part in response.parts]
    return [called(part.tool_name, part.args_as_dict()) for part in parts if isinstance(part, ToolCallPart)]


def chat(server: Server) -> Any:
    result = Agent(model_of(server), model_settings={"max_tokens": 20}).run_sync(QUESTION)
    return {
        "text": result.output,
        "finish_reason": result.response.finish_reason,
        "usage": [result.usage.input_tokens, result.usage.output_tokens],
    }


def stream(server: Server) -> Any:
    agent = Agent(model_of(server), model_settings={"max_tokens": 20, "temperature": 0})
    result = agent.run_stream_sync(QUESTION)
    pieces = list(result.stream_text(delta=True, debounce_by=None))
    return {
        "pieces": pieces,
        "whole": agent.run_sync(QUESTION).output,
        "usage": [result.usage.input_tokens, result.usage.output_tokens],
    }


def tool_loop(server: Server) -> Any:
    agent = Agent(model_of(server), tools=[weather, time], capabilities=[FirstCall(["weather"])])
    result = agent.run_sync(QUESTION)
    responses = [message for message in result.all_messages() if isinstance(message, ModelResponse)]
    return {"calls": calls_in(responses), "answer": result.output}


def thoughtful_loop(server: Server) -> Any:
    agent = Agent(model_of(server), tools=[weather, time], capabilities=[FirstCall(["weather"], (None, None))])
    result = agent.run_sync(QUESTION)
    first = next(message for message in result.all_messages() if isinstance(message, ModelResponse))
    thought = "".join(part.content for part in first.parts if isinstance(part, ThinkingPart))
    return {"calls": calls_in([first]), "reasoning": thought}


def stream_call(server: Server) -> Any:
    agent = Agent(model_of(server), tools=[weather, time], capabilities=[FirstCall("required")])
    result = agent.run_stream_sync(QUESTION)
    result.get_output()
    return {"calls": calls_in([message for message in result.all_messages() if isinstance(message, ModelResponse)])}


def parallel_calls(server: Server) -> Any:
    agent = Agent(model_of(server), tools=[weather, time], capabilities=[FirstCall("required")])
    for seed in range(TRIES):
        result = agent.run_sync(QUESTION, model_settings={"temperature": 1, "seed": seed})
        responses = [message for message in result.all_messages() if isinstance(message, ModelResponse)]
        if len(calls := calls_in(responses[:1])) > 1:
            break
    return {"calls": calls, "answer": result.output}


def parse(server: Server) -> Any:
    agent = Agent(model_of(server), output_type=NativeOutput(Person), model_settings={"max_tokens": ROOM})
    return agent.run_sync(QUESTION).output.model_dump()


def forced_call(server: Server) -> Any:
    """What an agent does by default with an output type: a call that is required."""
    agent = Agent(model_of(server), output_type=Person, model_settings={"max_tokens": ROOM})
    result = agent.run_sync(QUESTION)
    assert isinstance(result.output, Person)
    return {"calls": calls_in([result.response])}


def stream_parse(server: Server) -> Any:
    agent = Agent(model_of(server), output_type=NativeOutput(Person), model_settings={"max_tokens": ROOM})
    people = list(agent.run_stream_sync(QUESTION).stream_output(debounce_by=None))
    return {"partial": len(people), "value": people[-1].model_dump()}


def logprobs(server: Server) -> Any:
    settings = OpenAIChatModelSettings(max_tokens=10, openai_logprobs=True, openai_top_logprobs=2)
    result = Agent(model_of(server), model_settings=settings).run_sync(QUESTION)
    content = result.response.provider_details["logprobs"]
    return {
        "text": result.output,
        "tokens": [token["token"] for token in content],
        "logprobs": [token["logprob"] for token in content],
        "tops": [len(token["top_logprobs"]) for token in content],
    }


def thinking(server: Server) -> Any:
    def think(**settings: Any) -> Any:
        result = Agent(model_of(server), model_settings=OpenAIChatModelSettings(**settings)).run_sync(QUESTION)
        texts = {
            kind: "".join(part.content for part in result.response.parts if isinstance(part, kind))
            for kind in (ThinkingPart, TextPart)
        }
        return {
            "reasoning": texts[ThinkingPart],
            "text": texts[TextPart],
            "reasoning_tokens": result.usage.details.get("reasoning_tokens"),
        }

    return {
        "on": think(openai_reasoning_effort="high"),
        "off": think(extra_body={"chat_template_kwargs": {"enable_thinking": False}}),
        "budget": think(extra_body={"thinking_token_budget": 5}),
    }


def vision(server: Server) -> Any:
    def look(url: str) -> str:
        agent = Agent(model_of(server), model_settings={"max_tokens": 20, "temperature": 0})
        return agent.run_sync(["Apa ini?", BinaryContent.from_data_uri(url)]).output

    return {"red": look(server.red), "blue": look(server.blue)}


def errors(server: Server) -> Any:
    def ask(model: OpenAIChatModel, **settings: Any) -> Any:
        return refusal_of(lambda: Agent(model).run_sync(QUESTION, model_settings=settings))

    return {
        "unknown_model": ask(model_of(server, "gpt-none")),
        "bad_value": ask(model_of(server), temperature=3),
        "wrong_key": ask(model_of(server, key="another-key")),
    }


def retry(server: Server) -> Any:
    result = Agent(model_of(server)).run_stream_sync(QUESTION)
    return {"pieces": list(result.stream_text(delta=True))}


def resume(server: Server) -> Any:
    asked = {"max_tokens": 400, "extra_body": {"session_id": server.session_id, "ignore_eos": True}}
    agent = Agent(model_of(server), model_settings=asked)
    before = []
    for piece in agent.run_stream_sync(QUESTION).stream_text(delta=True, debounce_by=None):
        before.append(piece)
        if len(before) == 3:
            break
    seen = {"extra_headers": {"Last-Event-ID": f"{server.session_id}:{len(before)}"}}
    rest = list(agent.run_stream_sync(QUESTION, model_settings=seen).stream_text(delta=True, debounce_by=None))
    return {"before": before, "rest": rest, "whole": agent.run_sync(QUESTION).output}


serve(
    {
        "chat": chat,
        "stream": stream,
        "tool_loop": tool_loop,
        "forced_call": forced_call,
        "thoughtful_loop": thoughtful_loop,
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
