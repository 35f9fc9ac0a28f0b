"""A session as a person reads it: what was asked, and the answer put together from the chunks.

The request is read tolerantly, because the layer that runs it defines its format. Parts that are not understood are
shown as JSON.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any, NotRequired, TypedDict

from sessions_app.answer import Answer
from sessions_app.deltas import START, TERMINAL_DELTAS, TEXT_DELTAS, StoredDelta, type_of
from sessions_app.models import Chunk, SessionMedia
from sessions_app.storable import storable_text


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A piece of a message. ``kind`` is text, image, video, or other, whose ``text`` is JSON."""

    kind: str
    text: str = ""
    #: row of the stored file, without its bytes; None when it was removed
    media: SessionMedia | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    role: str
    parts: tuple[Part, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """A request: the messages that could be read, and the rest as indented JSON (empty when there is none)."""

    messages: tuple[Message, ...]
    rest: str


def read_answer(session_id: str) -> Answer:
    """The answer so far, in one query whose rows are not kept. Of a row that does not hold a delta nothing is shown."""
    rows = Chunk.objects.after(session_id, -1).values_list("index", "delta").iterator(chunk_size=2000)
    answer = Answer()
    answer.add((index, _readable(stored)) for index, stored in rows)
    return answer


def _readable(stored: Any) -> StoredDelta:
    """What a transcript needs of a stored delta: the text, and whether the stream ends with it."""
    delta = shown(stored)
    match delta["type"]:
        case "reasoning" | "refusal" | "text" as kind:
            return {"type": kind, "text": delta.get("text", ""), "choice": delta.get("choice", 0)}
        case kind if kind in TERMINAL_DELTAS:
            return {"type": "end"}
    return START


class ShownDelta(TypedDict):
    """What a page shows of a delta."""

    #: type of the delta, of any version; empty where the row does not hold a delta
    type: str
    text: NotRequired[str]
    choice: NotRequired[int]


def shown(stored: Any) -> ShownDelta:
    """What a page shows of a stored delta. It can always be encoded, and is small because it has no logprobs."""
    delta: ShownDelta = {"type": type_of(stored)}
    if delta["type"] == "call":
        delta = {"type": "text", "text": _call_as_text(stored)}
    elif delta["type"] in TEXT_DELTAS:
        text = stored.get("text")
        delta["text"] = storable_text(text) if isinstance(text, str) else ""
    if "text" in delta and (choice := stored.get("choice")) and isinstance(choice, int):
        delta["choice"] = choice
    return delta


def _call_as_text(stored: dict[str, Any]) -> str:
    """A part of a call as people read it: each call on a line of its own, in the text of the answer."""
    name, arguments = stored.get("name"), stored.get("arguments")
    head = f"\n\N{RIGHTWARDS ARROW} {name} " if isinstance(name, str) and name else ""
    return storable_text(head + (arguments if isinstance(arguments, str) else ""))


def read_question(request: Any, media: Sequence[SessionMedia]) -> Question:
    """The request for people. The n-th image or video part is the media row at position n."""
    if not isinstance(request, dict):
        return Question((), as_json(request))
    rest = dict(request)
    messages = rest.pop("messages", [])
    if not _are_messages(messages):
        return Question((), as_json(request))
    unclaimed = iter(sorted(media, key=lambda item: item.position))
    read = tuple(
        Message(str(message.get("role", "")), (*_parts(message.get("content"), unclaimed), *_calls(message)))
        for message in messages
    )
    return Question(read, as_json(rest) if rest else "")


def as_json(value: Any) -> str:
    return storable_text(json.dumps(value, indent=2, ensure_ascii=False))


def _are_messages(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(message, dict) for message in value)


def _calls(message: dict[str, Any]) -> list[Part]:
    return [Part("other", as_json(message["tool_calls"]))] if message.get("tool_calls") else []


def _parts(content: Any, unclaimed: Iterator[SessionMedia]) -> Iterator[Part]:
    if isinstance(content, str):
        yield Part("text", content)
        return
    for part in content if isinstance(content, list) else [content]:
        match part:
            case {"type": "text", "text": str(text)}:
                yield Part("text", text)
            case {"type": "image" | "video" as kind}:
                yield Part(kind, media=next(unclaimed, None))
            case None:
                pass
            case _:
                yield Part("other", as_json(part))
