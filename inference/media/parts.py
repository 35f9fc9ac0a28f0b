"""Read OpenAI chat messages into a neutral conversation and the list of media it refers to.

Nothing is fetched or decoded here: references are only classified by their form (URL, data URL, base64 or path).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from django.conf import settings

from inference.errors import InvalidMedia, InvalidRequest, UnsupportedParameter
from inference.media.inline import InlineText, Reference
from inference.message_text import message_text
from inference.tool_messages import call_id, calls_of

MediaKind = Literal["image", "video"]
Origin = Literal["url", "data", "base64", "path"]

#: role as sent → role in the chat template
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
#: part type → the member that holds the text
TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
#: part types that only the assistant's messages may contain
MODEL_PARTS = {"output_text", "refusal"}
#: part type → kind of media, and the members that may hold it; exactly one of them must be there
MEDIA_PARTS: dict[str, tuple[MediaKind, tuple[str, ...]]] = {
    "image_url": ("image", ("image_url",)),
    "input_image": ("image", ("b64_json", "image", "image_url")),
    "video_url": ("video", ("video_url",)),
    "input_video": ("video", ("b64_json", "video", "video_url")),
}
#: part types of OpenAI's API that this server does not support
UNSERVED_PARTS = {"input_audio", "audio_url", "file", "input_file"}
UNSERVED_MEMBERS = ("function_call", "audio")
#: members of an assistant's message that hold its reasoning, by the names that answers have it under
REASONING_MEMBERS = ("reasoning_content", "reasoning")
#: roles whose messages may contain images and videos
MEDIA_ROLES = ("user", "tool")
#: members of an image or video part that other servers of Qwen's models use for resolution and frame selection
UNSERVED_PART_MEMBERS = (
    *("min_pixels", "max_pixels", "total_pixels", "resized_height", "resized_width"),
    *("fps", "nframes", "min_frames", "max_frames", "video_start", "video_end"),
)

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_BASE64 = re.compile(r"[A-Za-z0-9+/_\-=\s]*")
#: no path is longer (Linux: PATH_MAX); a longer string is not searched for odd characters here
_MAX_PATH_CHARS = 4096


@dataclass(frozen=True, slots=True)
class MediaSource:
    """An image or a video that a message refers to."""

    kind: MediaKind
    #: the part that contains it, like ``messages[0].content[1]``
    param: str
    #: URL, data URL, base64 or path, as sent; megabytes at times, so it stays out of logs
    reference: Reference = field(repr=False)
    origin: Origin

    @property
    def address(self) -> str:
        """The reference of a URL or a path, which is never inline."""
        return cast("str", self.reference)


@dataclass(frozen=True, slots=True)
class ParsedConversation:
    """What was said, and the media in the order in which they appear."""

    #: {"role", "content"}, and "name" where one was given; of an assistant's calls "tool_calls", with the arguments as
    #: an object where they are one; of an assistant's reasoning "reasoning_content"; of a tool "tool_call_id";
    #: content is a list of {"type": "text", "text"}, {"type": "image"}, {"type": "video"}
    messages: list[dict[str, Any]]
    sources: list[MediaSource]


def parse_messages(messages: object) -> ParsedConversation:
    """Check ``messages`` of a chat request and take it apart.

    Raises InvalidRequest, InvalidMedia or UnsupportedParameter, each naming the message or part in ``param``.
    """
    if not isinstance(messages, list):
        raise InvalidRequest("'messages' must be a list of messages.", param="messages")
    if not messages:
        raise InvalidRequest("'messages' is empty: send at least one message.", param="messages")
    _check_sizes(messages)
    sources: list[MediaSource] = []
    parsed = [_message(message, f"messages[{i}]", sources) for i, message in enumerate(messages)]
    _check_counts(sources)
    return ParsedConversation(parsed, sources)


def origin_of(reference: str) -> Origin | None:
    """Classify a reference by its form; None for a URL with an unsupported scheme."""
    head = reference[:16].lower()
    if head.startswith(("http://", "https://")):
        return "url"
    if head.startswith("data:"):
        return "data"
    if head.startswith("file:"):
        return "path"
    if _SCHEME.match(reference[:64]):
        return None
    # Of the formats served only JPEG encodes to a leading slash, and it always begins "/9j/".
    if reference.startswith("/") and not reference.startswith("/9j/"):
        return "path"
    if len(reference) > _MAX_PATH_CHARS or _BASE64.fullmatch(reference):
        return "base64"
    return "path"


def _message(message: object, at: str, sources: list[MediaSource]) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise InvalidRequest("A message must be an object with 'role' and 'content'.", param=at)
    role = message.get("role")
    if role == "function":
        raise UnsupportedParameter("Messages of role 'function' are not supported: send 'tool'.", param=f"{at}.role")
    if not isinstance(role, str) or role not in ROLES:
        raise InvalidRequest(f"'role' must be one of {', '.join(ROLES)}.", param=f"{at}.role")
    for name in UNSERVED_MEMBERS:
        if message.get(name):
            raise UnsupportedParameter(f"'{name}' in a message is not supported.", param=f"{at}.{name}")
    content = message.get("content")
    calls = calls_of(message.get("tool_calls"), role, at)
    if role == "assistant" and content in (None, []):
        # The refusal is then the whole message.
        content = message.get("refusal") or ""
    if isinstance(content, str):
        parts: list[dict[str, Any]] = [{"type": "text", "text": message_text(content, f"{at}.content")}]
    elif isinstance(content, list) and content:
        parts = [_part(p, role, f"{at}.content[{i}]", sources) for i, p in enumerate(content)]
    else:
        raise InvalidRequest(
            "'content' must be a string or a list of at least one content part.", param=f"{at}.content"
        )
    parsed: dict[str, Any] = {"role": ROLES[role], "content": parts}
    if role == "assistant" and (reasoning := _reasoning(message, at)):
        parsed["reasoning_content"] = reasoning
    if calls:
        parsed["tool_calls"] = calls
    if role == "tool":
        parsed["tool_call_id"] = call_id(message.get("tool_call_id"), f"{at}.tool_call_id")
    if message.get("name") is not None:
        parsed["name"] = message_text(message["name"], f"{at}.name")
    return parsed


def _reasoning(message: Mapping[str, Any], at: str) -> str:
    """The reasoning that the model wrote in this turn, by the first of its names that has any; "" if none has."""
    for name in REASONING_MEMBERS:
        reasoning = message.get(name)
        if reasoning is not None and not isinstance(reasoning, str):
            raise InvalidRequest(f"'{name}' must be a string.", param=f"{at}.{name}")
        if reasoning:
            return message_text(reasoning, f"{at}.{name}")
    return ""


def _part(part: object, role: str, at: str, sources: list[MediaSource]) -> dict[str, Any]:
    if not isinstance(part, Mapping):
        raise InvalidRequest("A content part must be an object with a 'type'.", param=at)
    kind = part.get("type")
    if not isinstance(kind, str):
        raise InvalidRequest("A content part needs a 'type', for example 'text'.", param=at)
    if kind in MODEL_PARTS and role != "assistant":
        raise InvalidRequest(
            f"Content parts of type '{kind}' are allowed in messages of role 'assistant' only, not '{role}'.",
            param=at,
        )
    if kind in TEXT_PARTS:
        return {"type": "text", "text": message_text(part.get(TEXT_PARTS[kind]), at)}
    if kind in UNSERVED_PARTS:
        raise UnsupportedParameter(f"Content parts of type '{kind}' are not supported.", param=at)
    if kind not in MEDIA_PARTS:
        served = ", ".join([*sorted(TEXT_PARTS), *MEDIA_PARTS])
        raise InvalidRequest(f"Unknown type of content part. It must be one of {served}.", param=at)
    if role not in MEDIA_ROLES:
        raise InvalidRequest(
            f"Images and videos are allowed in messages of role 'user' or 'tool' only, not '{role}'.",
            param=at,
        )
    source = _source(part, kind, at)
    sources.append(source)
    return {"type": source.kind}


def _source(part: Mapping[str, Any], part_type: str, at: str) -> MediaSource:
    kind, members = MEDIA_PARTS[part_type]
    if part.get("file_id") is not None:
        raise UnsupportedParameter("'file_id' is not supported: send a URL or base64.", param=at)
    for name in UNSERVED_PART_MEMBERS:
        if part.get(name) is not None:
            raise UnsupportedParameter(
                f"'{name}' is not supported: images and videos are not resized or sampled on request.",
                param=f"{at}.{name}",
            )
    given = [name for name in members if part.get(name) is not None]
    if len(given) != 1:
        wanted = " or ".join(f"'{name}'" for name in members)
        raise InvalidRequest(f"A content part of type '{part_type}' needs {wanted}, exactly one of them.", param=at)
    member = given[0]
    value = part[member]
    if isinstance(value, Mapping):
        _check_detail(value.get("detail"), at)
        value = value.get("url")
    _check_detail(part.get("detail"), at)
    if not isinstance(value, str | InlineText):
        raise InvalidRequest(f"'{member}' must be a string, or an object with the string 'url'.", param=at)
    reference, origin = _reference(value)
    if not reference:
        raise InvalidMedia(f"The {kind} is empty: send a URL, a data URL or base64.", param=at)
    if isinstance(reference, InlineText) and origin in ("url", "path"):
        raise InvalidMedia(f"The {kind}'s URL is too long.", param=at)
    if member == "b64_json" and origin != "data":
        origin = "base64"
    if origin is None:
        raise InvalidMedia(
            f"The {kind}'s URL must begin with http://, https:// or data:.",
            param=at,
        )
    return MediaSource(kind=kind, param=at, reference=reference, origin=origin)


def _reference(value: Reference) -> tuple[Reference, Origin | None]:
    """``value`` without surrounding white space, and the kind of place it points to."""
    if isinstance(value, str):
        stripped = value.strip()
        return stripped, origin_of(stripped)
    # Only the beginning is inspected; white space in base64 is ignored.
    return value, origin_of(value.head(2 * _MAX_PATH_CHARS).lstrip())


def _check_detail(detail: object, at: str) -> None:
    """A hint about resolution; the model sees every image at its own size whatever it says."""
    if detail is not None and not isinstance(detail, str):
        raise InvalidRequest("'detail' must be a string, for example 'auto'.", param=at)


def _check_sizes(messages: list[Any]) -> None:
    """Before any message is looked at."""
    if len(messages) > settings.MAX_MESSAGES:
        raise InvalidRequest(
            f"The request has {len(messages)} messages; at most {settings.MAX_MESSAGES} are allowed.", param="messages"
        )
    parts = 0
    for i, message in enumerate(messages):
        content = message.get("content") if isinstance(message, Mapping) else None
        parts += len(content) if isinstance(content, list) else 1
        if parts > settings.MAX_CONTENT_PARTS:
            raise InvalidRequest(
                f"The messages have more than {settings.MAX_CONTENT_PARTS} content parts together.",
                param=f"messages[{i}].content",
            )


def _check_counts(sources: list[MediaSource]) -> None:
    limits: dict[MediaKind, int] = {
        "image": settings.MAX_IMAGES_PER_REQUEST,
        "video": settings.MAX_VIDEOS_PER_REQUEST,
    }
    for kind, limit in limits.items():
        found = [source for source in sources if source.kind == kind]
        if len(found) > limit:
            raise InvalidRequest(
                f"The request has {len(found)} {kind}s; at most {limit} are allowed.",
                param=found[limit].param,
            )
