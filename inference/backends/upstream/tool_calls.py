"""Reads the tool calls in the chunks of an upstream's stream, without those that were received before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inference.backends.upstream.errors import UpstreamError
from inference.backends.upstream.wire import list_in, object_in
from inference.engine.tool_calls import MAX_NAME_LENGTH, CallPiece
from sessions_app.answer import Call
from sessions_app.storable import storable_text

#: maximum number of calls in one answer, because each is a line of its own wherever people read it
MAX_CALLS = 1000


class ToolCalls:
    """Reads calls part by part, and numbers them in the order in which they begin."""

    def __init__(self, so_far: list[Call], *, repeats: bool) -> None:
        """``so_far`` has the calls until now, and is extended. ``repeats``: the stream begins with exactly these."""
        self._so_far = so_far
        self._repeated = [Call(call.name, call.arguments) for call in so_far] if repeats else []
        self._first = 0 if repeats else len(so_far)
        #: the upstream's index → the number of the call here
        self._numbers: dict[int, int] = {}
        #: number of the call here → the upstream's id
        self._ids: dict[int | None, Any] = {}
        self._count = 0

    @property
    def is_repeating(self) -> bool:
        """Whether the stream is still repeating what was received before."""
        return len(self._repeated) > self._count or any(call.arguments for call in self._repeated)

    def read(self, delta: Mapping[str, Any]) -> list[CallPiece]:
        """What the delta adds. Raises UpstreamError when the stream differs from what was received before."""
        pieces = [self._piece(object_in(part)) for part in list_in(delta.get("tool_calls"))]
        return [piece for piece in pieces if piece]

    def end(self) -> None:
        """Raises UpstreamError when the stream ended before all that was received before was repeated."""
        if self.is_repeating:
            raise UpstreamError.cannot_continue("its answer now differs from the part that was already sent")

    def _piece(self, part: Mapping[str, Any]) -> CallPiece:
        function = object_in(part.get("function"))
        name, arguments = _text(function.get("name")), _text(function.get("arguments"))
        index, call_id = _index(part.get("index")), part.get("id")
        number = self._numbers.get(index) if index is not None else None
        if name and call_id != self._ids.get(number):
            # Some servers send complete calls without an index, or all with the same index.
            number = None
        if number is None and not name and not self._count and index is not None and index < len(self._so_far):
            # The stream continues after the last event: the call began in an earlier one.
            number = index
        if number is None:
            if not 0 < len(name) <= MAX_NAME_LENGTH or self._count == MAX_CALLS:
                return CallPiece()
            number = self._first + self._count
            self._count += 1
            self._ids[number] = call_id
            if index is not None:
                self._numbers[index] = number
        else:
            name = ""
        return self._new(number, name, arguments)

    def _new(self, number: int, name: str, arguments: str) -> CallPiece:
        if number < len(self._repeated):
            repeated = self._repeated[number]
            length = min(len(repeated.arguments), len(arguments))
            if (name and name != repeated.name) or arguments[:length] != repeated.arguments[:length]:
                raise UpstreamError.cannot_continue("its answer now differs from the part that was already sent")
            repeated.arguments = repeated.arguments[length:]
            name, arguments = "", arguments[length:]
        if name:
            self._so_far.append(Call(name))
        self._so_far[number].arguments += arguments
        return CallPiece(name, arguments, number)


def _index(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _text(value: Any) -> str:
    return storable_text(value) if isinstance(value, str) else ""
