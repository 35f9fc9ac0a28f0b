"""Tells one chat request from another: whether the id of a session was sent with the request that opened it."""

from __future__ import annotations

import hashlib
import itertools
import json
import secrets
from typing import Any

from inference.api.schemas import ChatCompletionRequest
from inference.media.inline import InlineText

#: they say how to send the answer, not what it is: the same request may come again with others
NOT_PART_OF_THE_REQUEST = {"stream", "stream_options", "session_id"}
#: of a message, all that ``parse_messages`` gives the model something of
SHAPING_MEMBERS = ("role", "content", "name", "refusal", "tool_calls", "tool_call_id")
#: of a content part, what the model is not given
IDLE_PART_MEMBERS = ("cache_control", "annotations", "logprobs")
#: the order of the members of a schema is the order in which an answer has them
ORDERED = ("tools", "response_format", "structured_outputs", "guided_json")


def digest_of(asked: ChatCompletionRequest) -> str:
    """SHA-256 of what shapes the answer: equal for equal requests, before any media is fetched."""
    shaping = asked.model_dump(
        exclude_none=True, exclude_unset=True, include=set(type(asked).model_fields) - NOT_PART_OF_THE_REQUEST
    )
    if asked.messages is not None:
        shaping["messages"] = [_shaping(message) for message in shaping["messages"]]
    inline: list[InlineText] = []
    mark = secrets.token_hex(16)

    def stand_in(value: InlineText) -> str:
        inline.append(value)
        return mark

    ordered = {name: shaping.pop(name) for name in ORDERED if name in shaping}
    text = json.dumps(shaping, sort_keys=True, separators=(",", ":"), default=stand_in)
    text += json.dumps(ordered, separators=(",", ":"), default=stand_in) if ordered else ""
    digest = hashlib.sha256()
    # An inline text counts as the string that it is, without being made one.
    for between, value in itertools.zip_longest(text.split(mark), inline):
        digest.update(between.encode())
        for piece in value.pieces if value is not None else ():
            digest.update(piece)
    return digest.hexdigest()


def _shaping(message: dict[str, Any]) -> dict[str, Any]:
    """What the model is given of a message."""
    shaping = {name: message[name] for name in SHAPING_MEMBERS if message.get(name) is not None}
    if isinstance(parts := shaping.get("content"), list):
        shaping["content"] = [
            {name: value for name, value in part.items() if name not in IDLE_PART_MEMBERS} for part in parts
        ]
    return shaping
