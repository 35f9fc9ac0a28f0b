"""What one chunk adds to a session's stream, independent of any API.

A delta is one of the classes below, and its ``type`` says which. That holds for deltas that this server writes. A row
may hold anything, so code that reads rows of unknown origin uses ``type_of`` and checks the rest.

To add a kind, write its class here and add it to ``StoredDelta``; mypy then names the places that must render it.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

#: the kinds whose ``text`` is model output
TextKind = Literal["reasoning", "refusal", "text"]
TEXT_DELTAS: tuple[TextKind, ...] = ("reasoning", "refusal", "text")
TERMINAL_DELTAS = frozenset({"end", "error"})


class StoredLogprob(TypedDict):
    """A token and how likely the model found it."""

    token: str
    #: UTF-8 bytes of the token; None for a token that is never text
    bytes: list[int] | None
    logprob: float


class StoredTokenLogprob(StoredLogprob):
    """A token of the answer."""

    #: the most likely tokens at this position, the most likely first
    top: list[StoredLogprob]


class StartDelta(TypedDict):
    """The session is open. Always chunk 0, written with the session."""

    type: Literal["start"]


class TextDelta(TypedDict):
    """The next characters of an answer, of the reasoning before it, or of the refusal in its place."""

    type: TextKind
    text: str
    #: the number of the answer, in a session that gives several; left out for the first
    choice: NotRequired[int]
    #: log probabilities of each token of the chunk, where the request asks for them
    logprobs: NotRequired[list[StoredTokenLogprob]]


class CallDelta(TypedDict):
    """The next part of a call to one of the caller's functions."""

    type: Literal["call"]
    #: the number of the call in its answer, from 0
    call: int
    #: name of the function; only in the first part of each call
    name: NotRequired[str]
    #: the next characters of its arguments, which are a JSON object
    arguments: str
    #: as in ``TextDelta``
    choice: NotRequired[int]
    logprobs: NotRequired[list[StoredTokenLogprob]]


#: the deltas that are made from a model's tokens
ContentDelta = TextDelta | CallDelta


class FinishDelta(TypedDict):
    """An answer has ended."""

    type: Literal["finish"]
    #: stop, length, tool_calls, content_filter or cancelled
    reason: str
    #: the number of the answer; left out when all answers of the session end with this reason
    choice: NotRequired[int]


class UsageDelta(TypedDict):
    """Tokens of the whole session, all of its answers together."""

    type: Literal["usage"]
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    #: prompt tokens that needed no prefill, because the prefix cache had them; chunks of older versions lack it
    cached_tokens: NotRequired[int]


class EndDelta(TypedDict):
    """Terminal, after finish and usage."""

    type: Literal["end"]


class ErrorDelta(TypedDict):
    """Terminal, in place of finish, usage and end."""

    type: Literal["error"]
    #: the error object: message, type, param and code
    error: dict[str, Any]
    #: HTTP status for a caller who waited for the whole answer
    status: int


StoredDelta = StartDelta | TextDelta | CallDelta | FinishDelta | UsageDelta | EndDelta | ErrorDelta

#: chunk 0 of every session
START: StartDelta = {"type": "start"}


def type_of(delta: Any) -> str:
    """The type of a stored delta; empty for a row that does not hold a delta."""
    kind = delta.get("type") if isinstance(delta, dict) else None
    return kind if isinstance(kind, str) else ""


def is_terminal(delta: Any) -> bool:
    """Whether nothing follows it in its stream."""
    return type_of(delta) in TERMINAL_DELTAS
