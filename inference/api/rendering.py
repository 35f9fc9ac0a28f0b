"""Renders the log of a session as OpenAI's chat completion: one JSON object, or the chunks of a stream.

The output depends on the session and the chunk alone, so a resumed stream has the same bytes as the first.
"""

from __future__ import annotations

import datetime
import json
import secrets
import weakref
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from django.utils.crypto import salted_hmac

from inference.errors import ApiError
from inference.stored_request import choices_of, echoed_text
from sessions_app.answer import Answer, Choice
from sessions_app.deltas import CallDelta, ContentDelta, StoredLogprob, StoredTokenLogprob, TextDelta, UsageDelta
from sessions_app.models import ChatSession
from sessions_app.wakeups import StreamChunk

DONE = "[DONE]"
ERROR_MEMBERS = ("message", "type", "param", "code")
#: number of rendered chunks with log probabilities that are cached for other listeners of a session
KEPT_CHUNKS = 100
#: escapes for Unicode's line ends, at which some clients split a decoded stream; JSON does not escape them by itself
_LINE_ENDS = str.maketrans({end: f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"})
#: placeholder of the text in an event that is encoded in advance; random and never sent, so nothing else equals it
_MARK = secrets.token_hex(16)
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def encode_completion(session: ChatSession, answer: Answer) -> bytes:
    """``chat.completion``, for a session that did not fail, as UTF-8.

    Raises any exception when the log contains something that this version does not write.
    """
    return _json(render_completion(session, answer)).encode()


def render_completion(session: ChatSession, answer: Answer) -> dict[str, Any]:
    """Like ``encode_completion``, as an object."""
    said = [answer.choice(number) for number in range(choices_of(session.request))]
    reasons = [choice.finish_reason or answer.finish_reason for choice in said]
    usage: UsageDelta = {
        "type": "usage",
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "reasoning_tokens": answer.reasoning_tokens,
        "cached_tokens": answer.cached_tokens,
    }
    body = _envelope(session, "chat.completion") | {
        "choices": [
            {
                "index": index,
                "message": _message(choice, echoed_text(session.request)) | _calls(session.pk, index, choice),
                "logprobs": _logprobs(choice.logprobs),
                "finish_reason": _wire(reason),
            }
            for index, (choice, reason) in enumerate(zip(said, reasons, strict=True))
        ],
        "usage": _usage(usage),
        "session_id": session.pk,
    }
    return body | ({"session_state": "cancelled"} if "cancelled" in reasons else {})


class ChunkRenderer:
    """Renders a chunk as the data of its event; None for a chunk that this stream does not show.

    Listeners of a session with the same view share one: see ``renderer_of``.
    """

    def __init__(self, session: ChatSession, *, include_usage: bool) -> None:
        #: index → rendered chunk with log probabilities, newest last; rendering takes longer than the rest of the
        #: delivery
        self._kept: OrderedDict[int, str] = OrderedDict()
        self._envelope = _envelope(session, "chat.completion.chunk")
        self._session_id = session.pk
        self._include_usage = include_usage
        self._all = range(choices_of(session.request))
        self._echoed = echoed_text(session.request)
        # Nearly every chunk is a text of the first choice, and only the text differs: the rest is encoded once.
        self._around_text = self._choices([0], {"content": _MARK}).split(f'"{_MARK}"')
        self._around_reasoning = self._choices([0], _reasoning(_MARK)).split(f'"{_MARK}"')

    def __call__(self, chunk: StreamChunk) -> str | None:
        delta = chunk.delta
        match delta["type"]:
            case "start":
                return self._choices(self._all, {"role": "assistant", "content": self._echoed})
            case "text" | "reasoning" if "logprobs" in delta:
                if (data := self._kept.get(chunk.index)) is None:
                    data = self._kept[chunk.index] = self._with_delta(delta, _text_of(delta))
                    if len(self._kept) > KEPT_CHUNKS:
                        self._kept.popitem(last=False)
                return data
            case "text" | "reasoning" if "choice" in delta:
                return self._with_delta(delta, _text_of(delta))
            case "text":
                return _json(delta["text"]).join(self._around_text)
            case "reasoning":
                return _json(delta["text"]).join(self._around_reasoning)
            case "refusal":
                return self._with_delta(delta, {"refusal": delta["text"]})
            case "call":
                return self._with_delta(delta, {"tool_calls": [self._call(delta)]})
            case "finish":
                marks: dict[str, Any] = {"session_state": "cancelled"} if delta["reason"] == "cancelled" else {}
                ended = [delta["choice"]] if "choice" in delta else self._all
                return self._choices(ended, {}, finish_reason=_wire(delta["reason"]), **marks)
            case "usage":
                return _json(self._envelope | {"choices": [], "usage": _usage(delta)}) if self._include_usage else None
            case "end":
                return DONE
            case "error":
                # PostgreSQL does not keep the order of the members of an object.
                return _json({"error": {name: delta["error"].get(name) for name in ERROR_MEMBERS}})
        return None

    def _call(self, delta: CallDelta) -> dict[str, Any]:
        number, part = delta["call"], {"arguments": delta["arguments"]}
        if "name" not in delta:
            return {"index": number, "function": part}
        named = {"id": call_id(self._session_id, delta.get("choice", 0), number), "type": "function"}
        return {"index": number, **named, "function": {"name": delta["name"], **part}}

    def _with_delta(self, delta: ContentDelta, said: dict[str, Any]) -> str:
        return self._choices([delta.get("choice", 0)], said, logprobs=_logprobs(delta.get("logprobs")))

    def _choices(
        self,
        indexes: Iterable[int],
        delta: dict[str, Any],
        *,
        logprobs: dict[str, Any] | None = None,
        finish_reason: str | None = None,
        **extra: Any,
    ) -> str:
        said = {"delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        usage = {"usage": None} if self._include_usage else {}
        return _json(self._envelope | {"choices": [{"index": index} | said for index in indexes]} | usage | extra)


_renderers: weakref.WeakValueDictionary[tuple[str, datetime.datetime, bool], ChunkRenderer]
_renderers = weakref.WeakValueDictionary()


def renderer_of(session: ChatSession, *, include_usage: bool) -> ChunkRenderer:
    """The renderer of this session and view. It is shared, and kept as long as a listener uses it."""
    view = (session.pk, session.created_at, include_usage)
    if (renderer := _renderers.get(view)) is None:
        renderer = _renderers[view] = ChunkRenderer(session, include_usage=include_usage)
    return renderer


def _envelope(session: ChatSession, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{session.pk}",
        "object": kind,
        "created": int(session.created_at.timestamp()),
        "model": session.model,
    }


def call_id(session_id: str, choice: int, call: int) -> str:
    """The id of a call, the same in every resume. It does not reveal the session's id, which gives access to it."""
    digest = salted_hmac("inference.call_id", f"{session_id}/{choice}/{call}", algorithm="sha256").hexdigest()
    return f"call_{digest[:24]}"


def _message(choice: Choice, echoed: str) -> dict[str, Any]:
    # OpenAI's message has no content when it consists of calls alone.
    said = echoed + choice.text
    content = None if choice.calls and not said else said
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": choice.refusal or None}
    return message | (_reasoning(choice.reasoning) if choice.reasoning else {})


def _calls(session_id: str, index: int, choice: Choice) -> dict[str, Any]:
    calls = [
        {
            "id": call_id(session_id, index, number),
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for number, call in enumerate(choice.calls)
    ]
    return {"tool_calls": calls} if calls else {}


def _logprobs(tokens: Iterable[StoredTokenLogprob] | None) -> dict[str, Any] | None:
    """Logprobs of every token, including reasoning and the token that ended the answer, as in vLLM."""
    content = [
        _likelihood(token) | {"top_logprobs": [_likelihood(other) for other in token["top"]]} for token in tokens or ()
    ]
    return {"content": content, "refusal": None} if content else None


def _likelihood(token: StoredLogprob) -> dict[str, Any]:
    return {"token": token["token"], "logprob": token["logprob"], "bytes": token["bytes"]}


def _text_of(delta: TextDelta) -> dict[str, str]:
    return {"content": delta["text"]} if delta["type"] == "text" else _reasoning(delta["text"])


def _reasoning(text: str) -> dict[str, str]:
    # vLLM's clients use one name, those of SGLang, llama.cpp and transformers the other.
    return {"reasoning_content": text, "reasoning": text}


def _wire(reason: str) -> str:
    """The finish reason for clients. OpenAI has none for cancelled answers; strict clients refuse unknown reasons."""
    return "stop" if reason == "cancelled" else reason


def _usage(delta: UsageDelta) -> dict[str, Any]:
    return {
        "prompt_tokens": delta["prompt_tokens"],
        "completion_tokens": delta["completion_tokens"],
        "total_tokens": delta["prompt_tokens"] + delta["completion_tokens"],
        # Sessions that ended before an upgrade have no such count.
        "prompt_tokens_details": {"cached_tokens": delta.get("cached_tokens", 0)},
        "completion_tokens_details": {"reasoning_tokens": delta["reasoning_tokens"]},
    }


def render_error(error: ApiError) -> str:
    """The data of an event that ends a stream."""
    return _json({"error": error.as_dict()})


def _json(value: dict[str, Any] | str) -> str:
    encoded = _encoder.encode(value)
    return encoded if encoded.isascii() else encoded.translate(_LINE_ENDS)
