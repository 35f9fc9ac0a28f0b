"""The neutral log of a session as OpenAI's chat completion: one JSON object, or the chunks of a stream.

Everything is a function of the session and the chunk alone, so a resumed stream has the bytes of the first.
"""

from __future__ import annotations

import json
from typing import Any

from inference.generations import Answer
from sessions_app.models import ChatSession, Delta
from sessions_app.wakeups import StreamChunk

DONE = "[DONE]"
#: line ends to Unicode, so to clients that split a decoded stream into lines; JSON does not escape them by itself
_LINE_ENDS = str.maketrans({end: f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"})
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def render_completion(session: ChatSession, answer: Answer) -> dict[str, Any]:
    """``chat.completion``, for a session that did not fail."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.reasoning:
        message |= _reasoning(answer.reasoning)
    usage = {
        "type": "usage",
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "reasoning_tokens": answer.reasoning_tokens,
    }
    body = _envelope(session, "chat.completion") | {
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _wire(answer.finish_reason)}],
        "usage": _usage(usage),  # type: ignore[arg-type]
        "session_id": session.pk,
    }
    return body | ({"session_state": "cancelled"} if answer.finish_reason == "cancelled" else {})


class ChunkRenderer:
    """A chunk as the data of its event; None where this stream does not show it."""

    def __init__(self, session: ChatSession, *, include_usage: bool) -> None:
        self._envelope = _envelope(session, "chat.completion.chunk")
        self._include_usage = include_usage
        # Nearly every chunk is a text, and all but the text is the same in each: it is encoded once. In what follows
        # the envelope no other string is empty.
        self._around_text = self._choice({"content": ""}).rsplit('""', 1)
        self._around_reasoning = self._choice(_reasoning("")).rsplit('""', 2)

    def __call__(self, chunk: StreamChunk) -> str | None:
        delta = chunk.delta
        match delta["type"]:
            case "start":
                return self._choice({"role": "assistant", "content": ""})
            case "text":
                return _json(delta["text"]).join(self._around_text)
            case "reasoning":
                return _json(delta["text"]).join(self._around_reasoning)
            case "finish":
                marks = {"session_state": "cancelled"} if delta["reason"] == "cancelled" else {}
                return self._choice({}, finish_reason=_wire(delta["reason"]), **marks)
            case "usage":
                return _json(self._envelope | {"choices": [], "usage": _usage(delta)}) if self._include_usage else None
            case "end":
                return DONE
            case "error":
                return _json({"error": delta["error"]})
        return None

    def _choice(self, delta: dict[str, Any], finish_reason: str | None = None, **extra: Any) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": None} if self._include_usage else {}
        return _json(self._envelope | {"choices": [choice]} | usage | extra)


def _envelope(session: ChatSession, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{session.pk}",
        "object": kind,
        "created": int(session.created_at.timestamp()),
        "model": session.model,
    }


def _reasoning(text: str) -> dict[str, str]:
    # vLLM's clients read the one name, those of SGLang, llama.cpp and transformers the other.
    return {"reasoning_content": text, "reasoning": text}


def _wire(reason: str) -> str:
    """OpenAI knows no cancelled answer; strict clients refuse a reason they do not know."""
    return "stop" if reason == "cancelled" else reason


def _usage(delta: Delta) -> dict[str, Any]:
    return {
        "prompt_tokens": delta["prompt_tokens"],
        "completion_tokens": delta["completion_tokens"],
        "total_tokens": delta["prompt_tokens"] + delta["completion_tokens"],
        "completion_tokens_details": {"reasoning_tokens": delta["reasoning_tokens"]},
    }


def _json(value: dict[str, Any] | str) -> str:
    encoded = _encoder.encode(value)
    return encoded if encoded.isascii() else encoded.translate(_LINE_ENDS)
