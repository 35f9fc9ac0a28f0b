"""What can go wrong in the engine, as one family of exceptions."""

from __future__ import annotations

import re
from typing import Any


class EngineError(Exception):
    """The generation failed inside the engine."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are pickled with their message as the only argument, which some of these do not take.
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(kind: type[EngineError], args: tuple[Any, ...], attributes: dict[str, Any]) -> EngineError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class LoadError(EngineError):
    """The model cannot be loaded. The message is fit for a reader outside: it names no path but the given source."""


class PromptTooLong(EngineError):
    """The prompt leaves no room for a single token within the context."""

    def __init__(self, prompt_tokens: int, limit: int, *, exact: bool = True) -> None:
        count = prompt_tokens if exact else f"at least {prompt_tokens}"
        super().__init__(f"The prompt has {count} tokens; the context holds {limit}, answer included.")
        #: a lower bound where the prompt was not encoded to its end
        self.prompt_tokens = prompt_tokens
        #: tokens of prompt and answer together
        self.limit = limit


class InvalidPrompt(EngineError):
    """The conversation and its media do not make a prompt for this model."""


class ToolsUnknown(InvalidPrompt):
    """This model's chat template knows no tools: send none."""


class InvalidSampling(EngineError):
    """The request's sampling wants something that this model does not have or cannot do."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        #: the name of the parameter in the request
        self.field = field


class InvalidConstraint(EngineError):
    """The answer cannot be held to what the request wants."""

    @classmethod
    def because(cls, told: str) -> InvalidConstraint:
        """``told`` is llguidance's message, which may quote the grammar at length."""
        words = " ".join(told.split())
        for pattern, reason in _CONSTRAINT_REASONS:
            if found := re.match(pattern, words):
                return cls(found.expand(reason)[:300])
        return cls(words[:300])


def caused_by(error: Exception, message: str) -> EngineError:
    """An error that may be shown to the caller, with ``error`` as its cause."""
    failure = EngineError(message)
    failure.__cause__ = error
    return failure


#: messages of llguidance, and how to say the same to callers who do not know it
_CONSTRAINT_REASONS = (
    (r"Unimplemented keys: \[(.*)\]", r"These keywords of the schema are not supported: \1."),
    (r"panic|.*assertion failed", "The grammar is too large."),
    (r"Unknown format: (.*)", r'The schema has a "format" that is not supported: \1.'),
    (r"oneOf constraints", 'The schema has a "oneOf" whose members may both hold. Use "anyOf".'),
    (r"Resource .* is not present", 'The schema has a "$ref" or "$schema" to another document.'),
    (r"Pointer '(.*?)' does not exist", r'The schema has a "$ref" to nothing: #\1.'),
    (r"regex parse error: (.*)", r'A "pattern" cannot be read: \1'),
)


class EngineStopped(EngineError):
    """The engine stopped before the generation ended."""


class EngineLost(EngineError):
    """The process of the engine ended before the generation did."""
