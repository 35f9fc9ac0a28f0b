"""Digests of chat requests, to check that a session's id comes with the same request that opened the session."""

from __future__ import annotations

import hashlib
import itertools
import json
import secrets
from typing import Any

from inference.api.schemas import ChatCompletionRequest
from inference.media.inline import InlineText
from inference.media.parts import REASONING_MEMBERS

#: parameters that say how to send the answer, not what it is; a repeated request may change them
DELIVERY_PARAMETERS = {"stream", "stream_options", "session_id"}
#: members of a message that affect what ``parse_messages`` gives the model
MODEL_MEMBERS = ("role", "content", "name", "refusal", "tool_calls", "tool_call_id", *REASONING_MEMBERS)
#: members of a content part that the model does not get
IGNORED_PART_MEMBERS = ("cache_control", "annotations", "logprobs")
#: parameters with schemas, where the order counts: the members of an answer come in the order of its schema
ORDERED = ("tools", "response_format", "structured_outputs", "guided_json")


def digest_of(asked: ChatCompletionRequest) -> str:
    """SHA-256 of everything that affects the answer: equal for equal requests, without fetching any media."""
    relevant = asked.model_dump(
        exclude_none=True, exclude_unset=True, include=set(type(asked).model_fields) - DELIVERY_PARAMETERS
    )
    if asked.messages is not None:
        relevant["messages"] = [_model_members(message) for message in relevant["messages"]]
    inline: list[InlineText] = []
    mark = secrets.token_hex(16)

    def stand_in(value: InlineText) -> str:
        inline.append(value)
        return mark

    ordered = {name: relevant.pop(name) for name in ORDERED if name in relevant}
    text = json.dumps(relevant, sort_keys=True, separators=(",", ":"), default=stand_in)
    text += json.dumps(ordered, separators=(",", ":"), default=stand_in) if ordered else ""
    digest = hashlib.sha256()
    # An inline text is hashed in pieces, with the same result as the whole string.
    for between, value in itertools.zip_longest(text.split(mark), inline):
        digest.update(between.encode())
        for piece in value.pieces if value is not None else ():
            digest.update(piece)
    return digest.hexdigest()


def _model_members(message: dict[str, Any]) -> dict[str, Any]:
    """The members of a message that the model gets."""
    relevant = {name: message[name] for name in MODEL_MEMBERS if message.get(name) is not None}
    if isinstance(parts := relevant.get("content"), list):
        relevant["content"] = [
            {name: value for name, value in part.items() if name not in IGNORED_PART_MEMBERS} for part in parts
        ]
    return relevant
