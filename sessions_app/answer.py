"""What a session has said: its log folded into texts. Every reader of whole answers folds it here."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from sessions_app.deltas import TERMINAL_DELTAS, CallDelta, StoredDelta, StoredTokenLogprob
from sessions_app.encryption.sealed import check_readable
from sessions_app.models import Chunk
from sessions_app.storable import storable_error

#: what ``Answer.add`` raises for a row that does not hold a delta
UNREADABLE_CHUNK_ERRORS = (LookupError, TypeError, AttributeError)


@dataclasses.dataclass(slots=True)
class Call:
    """A call to one of the caller's functions."""

    name: str = ""
    #: a JSON object, exactly as the model wrote it
    arguments: str = ""


@dataclasses.dataclass(slots=True)
class Choice:
    """One of the answers of a session; most sessions have one."""

    text: str = ""
    reasoning: str = ""
    #: log probabilities of every token, as in the session's deltas; empty where the request did not ask for them
    logprobs: list[StoredTokenLogprob] = dataclasses.field(default_factory=list)
    #: finish reason of this choice, where the session gives several answers
    finish_reason: str = ""
    #: function calls, in their order
    calls: list[Call] = dataclasses.field(default_factory=list)
    #: text that an upstream server sends when it refuses to answer
    refusal: str = ""


@dataclasses.dataclass(slots=True)
class Answer:
    """What a session has said so far, in all of its choices."""

    #: choices that have said something or have ended, by number from 0
    choices: dict[int, Choice] = dataclasses.field(default_factory=dict)
    #: as in ``FinishDelta``: the reason for all choices that have none of their own; empty when the session failed
    finish_reason: str = ""
    error: dict[str, Any] | None = None
    #: HTTP status of the error
    error_status: int = 500
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    #: prompt tokens that needed no prefill, because the prefix cache had them
    cached_tokens: int = 0
    #: index of the last chunk that was added; -1 before the first
    last_index: int = -1
    #: whether the last chunk was terminal
    is_ended: bool = False

    def add(self, chunks: Iterable[tuple[int, StoredDelta]]) -> None:
        """Fold in the chunks that follow, as (index, delta) in order; ``StreamChunk`` is such a pair.

        Deltas of a type that this version does not know add nothing. Raises one of ``UNREADABLE_CHUNK_ERRORS`` for a
        row that does not hold a delta.
        """
        pieces: dict[tuple[int, str], list[str]] = {}
        for index, delta in chunks:
            match delta["type"]:
                case "text" | "reasoning" | "refusal" as kind:
                    number = delta.get("choice", 0)
                    pieces.setdefault((number, kind), []).append(delta["text"])
                    if logprobs := delta.get("logprobs"):
                        self._of(number).logprobs += logprobs
                case "call":
                    self._add_call(delta)
                case "finish" if "choice" in delta:
                    self._of(delta["choice"]).finish_reason = delta["reason"]
                case "finish":
                    self.finish_reason = delta["reason"]
                case "usage":
                    self.prompt_tokens = delta["prompt_tokens"]
                    self.completion_tokens = delta["completion_tokens"]
                    self.reasoning_tokens = delta["reasoning_tokens"]
                    self.cached_tokens = delta.get("cached_tokens", 0)
                case "error":
                    self.error = storable_error(delta["error"])
                    self.error_status = delta["status"]
            self.last_index = index
            self.is_ended = delta["type"] in TERMINAL_DELTAS
        for (number, said), texts in pieces.items():
            choice = self._of(number)
            setattr(choice, said, "".join([getattr(choice, said), *texts]))

    def choice(self, number: int) -> Choice:
        """The choice with this number; an empty one if it has said nothing."""
        return self.choices.get(number) or Choice()

    @property
    def first(self) -> Choice:
        return self.choice(0)

    @property
    def text(self) -> str:
        """The text of the first choice."""
        return self.first.text

    @property
    def others(self) -> list[Choice]:
        """The choices after the first, in order."""
        return [self.choices[number] for number in sorted(self.choices) if number]

    def _add_call(self, delta: CallDelta) -> None:
        choice = self._of(delta.get("choice", 0))
        if "name" in delta:
            choice.calls.append(Call(delta["name"]))
        # Raises LookupError for a part whose call has not begun.
        choice.calls[delta["call"]].arguments += delta["arguments"]
        choice.logprobs += delta.get("logprobs", ())

    def _of(self, number: int) -> Choice:
        if not isinstance(number, int):
            raise TypeError(f"a choice has the number {number!r}")
        return self.choices.setdefault(number, Choice())


def read_answer(session_id: str) -> Answer:
    """What the session has said so far, from the database. Raises as ``Answer.add``, and ``DataKeyMissing``."""
    answer = Answer()
    answer.add(_readable(Chunk.objects.after(session_id, -1).values_list("index", "delta").iterator(chunk_size=2000)))
    return answer


def _readable(rows: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    for index, delta in rows:
        check_readable(delta)
        yield index, delta
