"""Converts a session to requests for an OpenAI-compatible server."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.utils.crypto import salted_hmac

from inference.backends.upstream.errors import UpstreamError
from inference.backends.upstream.target import Target
from inference.engine.types import PromptEnding, Sampling
from inference.stored_request import StoredRequest
from sessions_app.answer import Call as ToolCall
from sessions_app.answer import Choice, read_answer
from sessions_app.deltas import TEXT_DELTAS, TextKind
from sessions_app.encryption.sealed import check_readable
from sessions_app.models import ChatSession, Chunk, SessionMedia

#: fields of ``Sampling`` that are always sent, because the upstream's defaults may differ
ALWAYS_SENT = {"max_tokens", "temperature", "top_p", "seed"}
#: fields of ``Sampling`` with another form on the wire; all others have their own name, which is OpenAI's or, if OpenAI
#: has none, vLLM's
WIRE_FORMS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "logit_bias": lambda pairs: {"logit_bias": {str(token_id): bias for token_id, bias in pairs}},
    # Some servers refuse 0. Only the likeliest token is within such a small share.
    "top_p": lambda share: {"top_p": share or 1e-6},
    "enable_thinking": lambda on: {"chat_template_kwargs": {"enable_thinking": on}},
    # No server has a parameter for it, and whether the model thinks at all is unknown here.
    "max_reasoning_tokens": lambda count: {},
    "logprobs": lambda count: {"logprobs": True, "top_logprobs": count},
}


#: how the prompt ends, in vLLM's parameters
WIRE_ENDINGS: dict[PromptEnding, dict[str, Any]] = {
    "turn": {},
    "message": {"add_generation_prompt": False},
    "inside": {"add_generation_prompt": False, "continue_final_message": True},
}


@dataclasses.dataclass(slots=True)
class AnswerSoFar:
    """The part of an answer that is committed or will be."""

    #: type of the deltas → their text
    texts: dict[TextKind, str] = dataclasses.field(default_factory=lambda: dict.fromkeys(TEXT_DELTAS, ""))
    #: as counted by the upstream, otherwise one for each piece
    tokens: int = 0
    calls: list[ToolCall] = dataclasses.field(default_factory=list)

    def __bool__(self) -> bool:
        return any(self.texts.values()) or bool(self.calls)

    @classmethod
    def of(cls, choice: Choice, *, tokens: int) -> AnswerSoFar:
        return cls({kind: getattr(choice, kind) for kind in TEXT_DELTAS}, tokens, choice.calls)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Call:
    """The request for one answer of a session. ``payload`` makes the body of one attempt."""

    #: the id under which another Sambung server keeps the stream; the same for every attempt
    upstream_id: str
    request_id: str
    target: Target
    messages: Sequence[dict[str, Any]]
    sampling: dict[str, Any]
    #: whether the answer continues the last message, which is the model's
    continues_message: bool = False
    #: members of the body that set the format of the answer
    wire_format: dict[str, Any] = dataclasses.field(default_factory=dict)
    #: whether the answer is also useful without this format
    wire_format_is_optional: bool = False
    #: whether an earlier attempt may have sent the request, by this worker or by another
    was_sent: bool = False

    @property
    def alternatives(self) -> int | None:
        """How many alternatives are wanted for each token; None when no logprobs are wanted."""
        return self.sampling["top_logprobs"] if self.sampling.get("logprobs") else None

    def payload(self, so_far: AnswerSoFar) -> bytes:
        """The body. It continues ``so_far`` when the target accepts a prefix. Raises UpstreamError.

        For a target that keeps the stream it is always the same, so that the target finds the session again.
        """
        body: dict[str, Any] = {
            "model": self.target.model,
            "messages": self.messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.sampling,
            **self.wire_format,
        }
        if self.target.resume == "session":
            body["session_id"] = self.upstream_id
        elif self.target.resume == "prefix":
            body["stream_options"]["continuous_usage_stats"] = True
        if self.target.resume != "session" and so_far:
            # A grammar would start from its beginning, in the middle of the answer.
            body = {name: value for name, value in body.items() if name not in self.wire_format}
            body |= self._continuation(so_far)
        return json.dumps(body, separators=(",", ":")).encode()

    def _continuation(self, so_far: AnswerSoFar) -> dict[str, Any]:
        if self.target.resume == "none":
            raise UpstreamError.cannot_continue("it cannot continue an answer")
        if so_far.calls:
            raise UpstreamError.cannot_continue("it cannot continue a tool call")
        if so_far.texts["refusal"]:
            raise UpstreamError.cannot_continue("it cannot continue a refusal")
        if self.wire_format and not self.wire_format_is_optional:
            raise UpstreamError.cannot_continue("it cannot continue an answer in a required format")
        if so_far.texts["reasoning"]:
            # Templates drop the reasoning of earlier turns, so the model would continue without the reasoning that it
            # began with.
            raise UpstreamError.cannot_continue("it cannot continue an answer that began with reasoning")
        messages, begun = (
            (self.messages[:-1], self.messages[-1]["content"]) if self.continues_message else (self.messages, "")
        )
        if not isinstance(begun, str):
            begun = "".join(part["text"] for part in begun)
        return {
            "messages": [*messages, {"role": "assistant", "content": begun + so_far.texts["text"]}],
            "add_generation_prompt": False,
            "continue_final_message": True,
            "max_tokens": self.tokens_left(so_far),
            **(
                {"min_tokens": max(0, self.sampling["min_tokens"] - so_far.tokens)}
                if "min_tokens" in self.sampling
                else {}
            ),
        }

    def without_refused(self) -> tuple[dict[str, Any], Call] | None:
        """What the answer can do without if the upstream refuses the request, and the call without it; None if there is
        no such thing."""
        if self.wire_format and self.wire_format_is_optional:
            return self.wire_format, dataclasses.replace(self, wire_format={})
        names = self.target.reasoning_names
        if len(names) > 1 and any(name in message for message in self.messages for name in names):
            # No one knows which of them it reads.
            messages = [{name: message[name] for name in message if name not in names} for message in self.messages]
            return {"messages": names}, dataclasses.replace(self, messages=messages)
        return None

    def tokens_left(self, so_far: AnswerSoFar) -> int:
        return int(self.sampling["max_tokens"]) - so_far.tokens


def calls_of(session: ChatSession, target: Target) -> list[Call]:
    """One call for each requested answer of the session. Reads its media. Raises ``RequestTooNew``.

    The ids that the upstream gets cannot be guessed from outside either.
    """
    request = StoredRequest.from_dict(session.request)
    messages = wire_messages(request.messages, list(session.media.all()), target.reasoning_names)
    sampling = wire_sampling(request.sampling) | WIRE_ENDINGS[request.ending]
    calls = []
    for choice in range(request.choices):
        name = f"{session.pk}/{choice}" if choice else session.pk
        calls.append(
            Call(
                upstream_id=f"up-{salted_hmac('inference.upstream', name, algorithm='sha256').hexdigest()[:48]}",
                request_id=session.request_id,
                target=target,
                messages=messages,
                sampling=sampling | {"seed": sampling["seed"] + choice},
                continues_message=request.ending == "inside",
                wire_format=request.wire_format or {},
                wire_format_is_optional=request.wire_format_is_optional,
                was_sent=session.attempt > 1 or session.next_index > 1,
            )
        )
    return calls


def committed(session: ChatSession) -> list[AnswerSoFar]:
    """What earlier attempts have committed of each answer. Raises ``RequestTooNew``."""
    choices = range(StoredRequest.from_dict(session.request).choices)
    if session.next_index <= 1:
        return [AnswerSoFar() for _ in choices]
    answer = read_answer(session.pk)
    token_ids = Chunk.objects.token_ids_by_choice(session.pk)
    return [AnswerSoFar.of(answer.choice(number), tokens=len(token_ids.get(number, ()))) for number in choices]


def wire_sampling(sampling: Sampling) -> dict[str, Any]:
    """The fields by their names on the wire.

    Those at their defaults are left out, because some servers refuse all unknown names.
    """
    sent: dict[str, Any] = {}
    for field in dataclasses.fields(sampling):
        name, value = field.name, getattr(sampling, field.name)
        if name in ALWAYS_SENT or value != field.default:
            sent |= WIRE_FORMS[name](value) if name in WIRE_FORMS else {name: value}
    if sampling.thinking_token_budget is not None and sampling.max_reasoning_tokens is not None:
        sent["max_tokens"] += sampling.max_reasoning_tokens
    return sent


def wire_messages(
    messages: Sequence[Mapping[str, Any]], media: Sequence[SessionMedia], reasoning_names: Sequence[str]
) -> list[dict[str, Any]]:
    """The messages, with each image and video as a data URL of its original bytes, and reasoning by these names."""
    waiting = list(media)
    wired = []
    for message in messages:
        content = message["content"]
        if not isinstance(content, str):
            parts = [part if part["type"] == "text" else _media_part(waiting.pop(0)) for part in content]
            # Many templates accept only a text.
            content = parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts
        wired.append({**message, "content": content})
        if "reasoning_content" in message:
            reasoning = wired[-1].pop("reasoning_content")
            wired[-1] |= dict.fromkeys(reasoning_names, reasoning)
        if "tool_calls" in message:
            wired[-1]["tool_calls"] = [_wire_call(call) for call in message["tool_calls"]]
    return wired


def _wire_call(call: Mapping[str, Any]) -> dict[str, Any]:
    arguments = call["function"]["arguments"]
    as_text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {**call, "function": {**call["function"], "arguments": as_text}}


def _media_part(media: SessionMedia) -> dict[str, Any]:
    kind = f"{media.kind}_url"
    check_readable(media.data)
    data = base64.b64encode(media.data).decode()
    return {"type": kind, kind: {"url": f"data:{media.content_type};base64,{data}"}}
