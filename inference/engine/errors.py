"""What can go wrong in the engine, as one family of exceptions."""

from __future__ import annotations


class EngineError(Exception):
    """The generation failed inside the engine."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class LoadError(EngineError):
    """The model cannot be loaded. The message is fit for a reader outside: it names no path but the given source."""


class PromptTooLong(EngineError):
    """The prompt leaves no room for a single token within the context."""

    def __init__(self, prompt_tokens: int, limit: int, *, exact: bool = True) -> None:
        count = prompt_tokens if exact else f"at least {prompt_tokens}"
        super().__init__(f"The prompt has {count} tokens; the context holds {limit}, answer included.")
        #: of a prompt that was not read to its end: no more than it has
        self.prompt_tokens = prompt_tokens
        #: tokens of prompt and answer together
        self.limit = limit


class InvalidPrompt(EngineError):
    """The conversation and its media do not make a prompt for this model."""


class InvalidSampling(EngineError):
    """The request's sampling names a token that this model does not have."""

    def __init__(self, field: str, token_id: int) -> None:
        super().__init__(f"{field} names the token id {token_id}, which this model does not have.")
        #: the field of ``Sampling``
        self.field = field


class InvalidConstraint(EngineError):
    """The answer cannot be held to the grammar that the request gives."""

    @classmethod
    def because(cls, reason: str) -> InvalidConstraint:
        """``reason`` is the first line of what llguidance says."""
        return cls(f"{cls.__doc__} {reason.strip().partition(chr(10))[0]}".strip())


class EngineStopped(EngineError):
    """The engine stopped before the generation ended."""
