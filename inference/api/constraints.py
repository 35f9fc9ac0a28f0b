"""The constraint on the answer while it is decoded: the requested format, and the calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from django.conf import settings

from inference import grammars
from inference.api.schemas import ChatCompletionRequest
from inference.api.tools import ToolUse
from inference.engine.call_grammar import ANY_OBJECT
from inference.engine.grammar_check import Function
from inference.engine.types import Constraint
from inference.errors import InvalidRequest


async def constraint_of(asked: ChatCompletionRequest) -> Constraint | None:
    """None for an unconstrained answer. Raises InvalidRequest for what cannot be enforced."""
    wanted, use = asked.asked_format(), asked.tool_use
    answer = await grammars.check(wanted[0], param=wanted[1]) if wanted is not None else None
    if use is None:
        return answer
    if answer is None and not use.is_constrained:
        return None
    return await grammars.check_calls(
        list(_functions(use)),
        {tool["function"]["name"]: f"tools[{place}].function.parameters" for place, tool in enumerate(use.tools)},
        is_required=use.is_required,
        one_call=use.one_call,
        answer=None if wanted is None or answer is None else _schema_of(answer, wanted[1]),
    )


def _functions(use: ToolUse) -> Iterator[Function]:
    """The schema to enforce for each function: its own, or any object if its own need not be enforced or is too large.

    Raises InvalidRequest when the schemas that must be enforced are too large together.
    """
    left = settings.MAX_GRAMMAR_BYTES
    for tool in sorted(use.tools, key=lambda tool: tool["function"]["name"] not in use.strict):
        name, schema = tool["function"]["name"], tool["function"]["parameters"]
        is_strict = name in use.strict
        size = len(json.dumps(schema))
        if is_strict and size > left:
            raise InvalidRequest(
                f"The schemas of strict functions have more than {settings.MAX_GRAMMAR_BYTES} bytes.", param="tools"
            )
        is_own = is_strict or (use.is_required and size <= left)
        left -= size if is_own else 0
        yield Function(name, schema if is_own else ANY_OBJECT, is_strict)


def _schema_of(answer: Constraint, param: str) -> Any:
    match answer.kind:
        case "json_object":
            return ANY_OBJECT
        case "json_schema":
            return json.loads(answer.source)
        case _:
            raise InvalidRequest(f"{param} cannot be combined with tools: only JSON can.", param=param)
