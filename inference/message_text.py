"""Checks that texts and JSON for a model can be stored."""

from __future__ import annotations

import math

from inference.errors import InvalidRequest


def message_text(text: object, at: str) -> str:
    """The text. Raises InvalidRequest, naming ``at``, if it is not a text or cannot be stored."""
    if not isinstance(text, str):
        raise InvalidRequest("'text' must be a string.", param=at)
    if "\0" in text:
        raise InvalidRequest("The text contains a NUL character (U+0000); remove it.", param=at)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(
            "The text contains half of a surrogate pair, which is not valid Unicode.", param=at
        ) from None
    return text


def is_storable(value: object, *, depth: int) -> bool:
    """Whether ``value`` is JSON of no more than ``depth`` levels whose texts and numbers every database takes."""
    match value:
        case str():
            return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
        case dict():
            members = [*value.keys(), *value.values()]
            return depth > 0 and all(is_storable(member, depth=depth - 1) for member in members)
        case list():
            return depth > 0 and all(is_storable(item, depth=depth - 1) for item in value)
        case float():
            return math.isfinite(value)
        case _:
            return value is None or isinstance(value, int)
