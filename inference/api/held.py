"""What the answer to a request is held to while it is decoded: the form that it asks for, and the calls."""

from __future__ import annotations

import json
from typing import Any

from inference import grammars
from inference.api.schemas import ChatCompletionRequest
from inference.api.tools import ToolUse
from inference.engine.call_grammar import ANY_OBJECT, calls_source
from inference.engine.types import Constraint
from inference.errors import InvalidRequest


async def constraint_of(asked: ChatCompletionRequest) -> Constraint | None:
    """None where the answer is free. Raises InvalidRequest for what cannot be enforced."""
    wanted, use = asked.asked_format(), asked.tool_use()
    answer = await grammars.check(wanted[0], param=wanted[1]) if wanted is not None else None
    if use is None:
        return answer
    if answer is None and not use.is_held:
        return None
    schemas = {
        tool["function"]["name"]: await _arguments(tool, f"tools[{place}].function.parameters", use)
        for place, tool in enumerate(use.tools)
    }
    source = calls_source(
        schemas,
        is_required=use.is_required,
        one_call=use.one_call,
        answer=None if wanted is None or answer is None else _schema_of(answer, wanted[1]),
    )
    return Constraint("calls", source)


async def _arguments(tool: dict[str, Any], param: str, use: ToolUse) -> dict[str, Any]:
    """The schema that a function's arguments are held to: its own, or that of any object where it need not be."""
    function = tool["function"]
    is_strict = function["name"] in use.strict
    if not (is_strict or use.is_required):
        return ANY_OBJECT
    schema: dict[str, Any] = function["parameters"]
    try:
        await grammars.check(Constraint("json_schema", json.dumps(schema)), param=param)
    except InvalidRequest:
        if is_strict:
            raise
        return ANY_OBJECT
    return schema


def _schema_of(answer: Constraint, param: str) -> Any:
    match answer.kind:
        case "json_object":
            return ANY_OBJECT
        case "json_schema":
            return json.loads(answer.source)
        case _:
            raise InvalidRequest(f"{param} cannot be combined with tools: only JSON can.", param=param)
