"""A text that a request gives a model to read."""

from __future__ import annotations

from inference.errors import InvalidRequest


def message_text(text: object, at: str) -> str:
    """The text, if it is one that can be stored. Raises InvalidRequest, naming ``at``."""
    if not isinstance(text, str):
        raise InvalidRequest("'text' must be a string.", param=at)
    if "\0" in text:
        raise InvalidRequest("The text holds a NUL character (U+0000); remove it.", param=at)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("The text holds half of a surrogate pair, which is not valid Unicode.", param=at) from None
    return text
