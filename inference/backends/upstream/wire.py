"""Reads JSON of an upstream server, which may have any shape: whatever is not as in OpenAI's API is ignored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from inference.engine.types import FinishReason, Likelihood, TokenLogprobs
from sessions_app.storable import UNKNOWN_TOKEN, storable_bytes, storable_logprob, storable_text

#: known finish reasons; all others are servers' own names for an end that the model has chosen
REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


class NotReadable(ValueError):
    """The text is not JSON, or is nested too deeply."""


def parsed(text: str | bytes) -> Any:
    """Raises NotReadable."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise NotReadable from exc


def object_in(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def list_in(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def text_in(value: Any) -> str:
    """A text, or the joined texts of a list of parts."""
    if isinstance(value, str):
        return value
    parts = value if isinstance(value, list) else [value]
    texts = (part.get("text") if isinstance(part, dict) else part for part in parts)
    return "".join(text for text in texts if isinstance(text, str))


def choices_in(chunk: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The choices of the one answer that was requested."""
    choices = map(object_in, list_in(chunk.get("choices")))
    return [choice for choice in choices if not _is_another(choice.get("index"))]


def _is_another(index: Any) -> bool:
    return isinstance(index, int | float) and index != 0


def reason_in(choice: Mapping[str, Any]) -> FinishReason | None:
    """The finish reason, None while the answer has not ended."""
    said = choice.get("finish_reason")
    if not said:
        return None
    return REASONS.get(said, "stop") if isinstance(said, str) else "stop"


def logprobs_in(choice: Mapping[str, Any], *, alternatives: int) -> tuple[TokenLogprobs, ...]:
    """Logprobs of the choice's tokens, with at most this many alternatives each."""
    told = object_in(choice.get("logprobs"))
    # OpenAI has the tokens of a refusal in a separate list; here all tokens are in one list.
    tokens = [*list_in(told.get("content")), *list_in(told.get("refusal"))]
    found = []
    for token in filter(_is_token, tokens):
        others = list_in(token.get("top_logprobs"))[:alternatives]
        found.append(TokenLogprobs(_likelihood(token), tuple(map(_likelihood, filter(_is_token, others)))))
    return tuple(found)


def _is_token(value: Any) -> bool:
    return isinstance(value, dict) and "token" in value


def _likelihood(told: Mapping[str, Any]) -> Likelihood:
    token = told["token"]
    raw = storable_bytes(told.get("bytes"))
    return Likelihood(
        UNKNOWN_TOKEN,
        storable_text(token) if isinstance(token, str) else "",
        None if raw is None else bytes(raw),
        storable_logprob(told.get("logprob")),
    )
