"""The tool calls in the messages of a conversation, and the call that each result belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from inference.errors import InvalidRequest
from inference.message_text import is_storable, message_text

MAX_CALL_ID_LENGTH = 256
#: maximum nesting of the arguments of a call; deeper arguments are passed on as text
MAX_DEPTH = 32


def calls_of(calls: object, role: str, at: str) -> list[dict[str, Any]]:
    """``tool_calls`` of a message, each with its ``arguments`` as an object if they are one.

    Raises InvalidRequest, naming the member of the message at ``at``.
    """
    if not calls:
        return []
    if role != "assistant":
        raise InvalidRequest(
            f"'tool_calls' is allowed in messages of role 'assistant' only, not '{role}'.",
            param=f"{at}.tool_calls",
        )
    if not isinstance(calls, list):
        raise InvalidRequest("'tool_calls' must be a list.", param=f"{at}.tool_calls")
    return [_call(call, f"{at}.tool_calls[{i}]") for i, call in enumerate(calls)]


def call_id(value: object, at: str) -> str:
    """The id of a call. Raises InvalidRequest."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_CALL_ID_LENGTH:
        raise InvalidRequest(f"It must be the id of a tool call, with 1 to {MAX_CALL_ID_LENGTH} characters.", param=at)
    return message_text(value, at)


def _call(call: object, at: str) -> dict[str, Any]:
    if not isinstance(call, Mapping) or call.get("type", "function") != "function":
        raise InvalidRequest("A tool call must be an object of type 'function'.", param=at)
    function = call.get("function")
    if not isinstance(function, Mapping):
        raise InvalidRequest("A tool call needs a 'function' with its name and arguments.", param=at)
    arguments = message_text(function.get("arguments") or "{}", f"{at}.function.arguments")
    named = {"name": message_text(function.get("name"), f"{at}.function.name"), "arguments": _as_object(arguments)}
    return {"id": call_id(call.get("id"), f"{at}.id"), "type": "function", "function": named}


def _as_object(arguments: str) -> dict[str, Any] | str:
    """The arguments as an object, because templates write it as JSON themselves; other or unstorable ones stay text."""
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return value if isinstance(value, dict) and is_storable(value, depth=MAX_DEPTH) else arguments
