"""``llm``: the package behind the command, with a model of ``extra-openai-models.yaml``."""

from __future__ import annotations

import base64
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from contract import QUESTION, ROOM, Person, Server, refusal_of, serve

# Its configuration, which users write by hand, is read when it is imported.
os.environ["LLM_USER_PATH"] = tempfile.mkdtemp(prefix="llm-")
import llm


def model_of(server: Server, model: str = "", key: str = "") -> Any:
    model = model or server.model
    folder = Path(os.environ["LLM_USER_PATH"])
    (folder / "keys.json").write_text(json.dumps({"contract": key or server.api_key}))
    (folder / "extra-openai-models.yaml").write_text(
        f"- model_id: contract-{model}\n  model_name: {model}\n  api_base: {server.base_url}\n"
        "  api_key_name: contract\n"
        "  supports_schema: true\n  supports_tools: true\n  vision: true\n  reasoning: true\n"
    )
    return llm.get_model(f"contract-{model}")


def chat(server: Server) -> Any:
    answer = model_of(server).prompt(QUESTION, stream=False, max_tokens=20)
    return {
        "text": answer.text(),
        "finish_reason": answer.response_json["choices"][0]["finish_reason"],
        "usage": [answer.usage().input, answer.usage().output],
    }


def stream(server: Server) -> Any:
    model = model_of(server)
    answer = model.prompt(QUESTION, max_tokens=20, temperature=0)
    return {
        "pieces": [piece for piece in answer if piece],
        "whole": model.prompt(QUESTION, stream=False, max_tokens=20, temperature=0).text(),
        "usage": [answer.usage().input, answer.usage().output],
    }


def offered_tool(server: Server) -> Any:
    def weather(city: str) -> str:
        """The weather of a city."""
        return f"{city}: hujan"

    return {"text": model_of(server).chain(QUESTION, tools=[weather], options={"max_tokens": 20}).text()}


def parse(server: Server) -> Any:
    answer = model_of(server).prompt(QUESTION, schema=Person, stream=False, max_tokens=ROOM)
    return Person.model_validate_json(answer.text()).model_dump()


def stream_parse(server: Server) -> Any:
    pieces = [piece for piece in model_of(server).prompt(QUESTION, schema=Person, max_tokens=ROOM) if piece]
    return {"partial": len(pieces), "value": Person.model_validate_json("".join(pieces)).model_dump()}


def thinking(server: Server) -> Any:
    def think(**options: Any) -> Any:
        answer = model_of(server).prompt(QUESTION, **options)
        texts = {"reasoning": "", "text": ""}
        for event in answer.stream_events():
            texts[event.type] += event.chunk
        details = answer.usage().details or {}
        return texts | {"reasoning_tokens": details.get("completion_tokens_details", {}).get("reasoning_tokens", 0)}

    return {"on": think(reasoning_effort="high"), "off": think(reasoning_effort="none")}


def vision(server: Server) -> Any:
    def look(url: str) -> str:
        image = llm.Attachment(content=base64.b64decode(url.partition(",")[2]))
        return model_of(server).prompt("Apa ini?", attachments=[image], max_tokens=20, temperature=0).text()

    return {"red": look(server.red), "blue": look(server.blue)}


def errors(server: Server) -> Any:
    return {
        "unknown_model": refusal_of(lambda: model_of(server, "gpt-none").prompt(QUESTION).text()),
        "bad_value": refusal_of(lambda: model_of(server).prompt(QUESTION, max_tokens=0).text()),
        "wrong_key": refusal_of(lambda: model_of(server, key="another-key").prompt(QUESTION).text()),
    }


def retry(server: Server) -> Any:
    return {"pieces": [piece for piece in model_of(server).prompt(QUESTION) if piece]}


serve(
    {
        "chat": chat,
        "stream": stream,
        "offered_tool": offered_tool,
        "parse": parse,
        "stream_parse": stream_parse,
        "thinking": thinking,
        "vision": vision,
        "errors": errors,
        "retry": retry,
    }
)
