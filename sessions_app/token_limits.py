"""How many tokens sessions may generate, from their stored requests."""

from __future__ import annotations

from typing import Any

from django.db.models import Exists, OuterRef
from django.db.models.fields.json import KT

from sessions_app.models import Chunk

#: what ``token_limit`` is computed from, for ``values_list``: the request itself may be megabytes of text
TOKEN_LIMIT = (
    KT("request__sampling__max_tokens"),
    KT("request__sampling__max_reasoning_tokens"),
    KT("request__choices"),
    Exists(Chunk.objects.filter(session=OuterRef("pk"), index=1, delta__type="reasoning")),
)


def token_limit(answer: Any, reasoning: Any, choices: Any, has_reasoning: bool) -> int | None:
    """Maximum tokens of all answers of a session together; None if its request was removed or names no number.

    A request may have a separate limit for the reasoning, but does not say whether the model thinks. So that limit
    counts once the answer has begun with reasoning.
    """
    if (each := _number(answer)) is None:
        return None
    return (each + (_number(reasoning) or 0 if has_reasoning else 0)) * (_number(choices) or 1)


def _number(text: Any) -> int | None:
    """A member of a stored request, which may be anything."""
    return int(text) if str(text).isdecimal() else None
