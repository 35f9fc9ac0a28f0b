"""The inputs and outputs of the engine. Plain values: no Django, no tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from PIL import Image

from inference.engine.tool_calls import CallPiece

PromptEnding = Literal["turn", "message", "inside"]
ConstraintKind = Literal["json_object", "json_schema", "regex", "choice", "grammar", "calls"]
#: content_filter is reported by upstream servers only
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "cancelled"]


@dataclass(frozen=True, slots=True, eq=False)
class Video:
    """Frames sampled from a video, in order."""

    #: uint8 RGB frames, shape [frames, height, width, 3]
    frames: np.ndarray
    #: when each frame is shown, in seconds from the start of the video
    timestamps_seconds: Sequence[float]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen, and when to stop. The defaults change nothing.

    The order of the steps is that of vLLM's sampler: min_tokens and logit_bias, penalties, temperature, min_p, top_k,
    top_p.
    """

    max_tokens: int
    #: 0 takes the most likely token
    temperature: float = 0.0
    #: keep the smallest set of tokens whose probabilities sum to this
    top_p: float = 1.0
    #: the draw of token i depends on (seed, i) alone
    seed: int = 0
    #: generation ends before the first of these; they are not part of the text
    stop: tuple[str, ...] = ()
    #: no end-of-sequence token, stop token or stop string ends the generation before this many tokens
    min_tokens: int = 0
    #: continue past the end-of-sequence token, to max_tokens
    ignore_eos: bool = False
    #: keep this many of the likeliest tokens; 0 keeps all
    top_k: int = 0
    #: keep the tokens with at least this fraction of the likeliest one's probability
    min_p: float = 0.0
    #: subtracted once from the logit of each token that was generated before
    presence_penalty: float = 0.0
    #: subtracted from the logit of a token for each time that it was generated before
    frequency_penalty: float = 0.0
    #: a token of the prompt or the answer has its logit divided by this when positive, multiplied when negative
    repetition_penalty: float = 1.0
    #: (token id, number added to its logit), each id once
    logit_bias: tuple[tuple[int, float], ...] = ()
    #: these end the generation as the end-of-sequence token does, also with ignore_eos; they are not part of the text
    stop_token_ids: tuple[int, ...] = ()
    #: how many of the likeliest tokens to report beside each chosen one; None reports nothing
    logprobs: int | None = None
    #: the only tokens that may be generated; an empty tuple allows all
    allowed_token_ids: tuple[int, ...] = field(default=(), metadata={"since": 2})
    #: texts that must not be generated, each by its tokens alone and with a leading space
    bad_words: tuple[str, ...] = field(default=(), metadata={"since": 2})
    #: limit of the reasoning, while max_tokens limits the answer alone; None: max_tokens limits both together
    max_reasoning_tokens: int | None = field(default=None, metadata={"since": 2})
    #: limit of the reasoning that the request itself sets; at the limit the model's end marker is forced
    thinking_token_budget: int | None = field(default=None, metadata={"since": 2})
    #: for chat templates with such a switch; None leaves it to the template
    enable_thinking: bool | None = field(default=None, metadata={"since": 2})
    #: for chat templates that take it: none, minimal, low, medium, high, xhigh or max; "" leaves it to the template
    reasoning_effort: str = field(default="", metadata={"since": 2})

    @property
    def thought_budget(self) -> int | None:
        """Maximum tokens of the reasoning; None leaves its end to the model."""
        granted = (self.thinking_token_budget, self.max_reasoning_tokens)
        return min((tokens for tokens in granted if tokens is not None), default=None)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Sampling:
        """The fields by name, with JSON's lists for tuples. Fields may be missing."""
        return cls(**{name: _with_tuples(value) for name, value in stored.items()})


def _with_tuples(value: Any) -> Any:
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class Constraint:
    """What the text of an answer must match. It does not apply to the reasoning before the answer."""

    kind: ConstraintKind
    #: by kind: json_object: empty; json_schema: the schema; regex: the expression, which the whole text matches;
    #: choice: a JSON list of texts; grammar: in Lark's notation, as llguidance reads it; calls: see ``calls_source``
    source: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class GenerationRequest:
    """One generation: a conversation, its media in order of appearance, and how to sample."""

    #: chat-template messages; content is a list of {"type": "text", "text": …}, {"type": "image"} and {"type": "video"}
    messages: Sequence[dict[str, Any]]
    sampling: Sampling
    images: Sequence[Image.Image] = ()
    videos: Sequence[Video] = ()
    #: tokens generated and committed by an earlier attempt; generation continues after them
    resume_ids: Sequence[int] = field(default=())
    constraint: Constraint | None = None
    #: how the prompt ends. turn: by opening a turn of the model; message: with the last message; inside: within the
    #: last message, which is the model's and is continued
    ending: PromptEnding = "turn"
    #: functions that the answer may call, in the format of OpenAI's ``tools``; without any, no calls are parsed
    tools: Sequence[dict[str, Any]] = ()
    #: the answer ends after its first call
    one_call: bool = False
    #: a further answer of a request with several: it waits until every first answer has a row
    is_further: bool = False


@dataclass(frozen=True, slots=True)
class Likelihood:
    """A possible next token, and how likely it was."""

    token_id: int
    #: its characters, U+FFFD for bytes that are not a complete character; the name of a token that is never text
    token: str
    #: None for a token that is never text
    raw: bytes | None
    #: natural logarithm of the model's own probability, before bias, penalties, temperature and cuts
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """How likely a generated token was, and the likeliest tokens in its place, the likeliest first."""

    chosen: Likelihood
    top: tuple[Likelihood, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """What a step added. The text after k tokens follows from those k tokens alone: a resumed run repeats nothing."""

    token_ids: tuple[int, ...]
    text: str = ""
    #: text inside <think>…</think>, which is not part of the answer
    reasoning: str = ""
    #: one for each of ``token_ids`` when the request asks for them, otherwise none
    logprobs: tuple[TokenLogprobs, ...] = ()
    #: text in which an upstream server declines to answer
    refusal: str = ""
    #: pieces of tool calls
    calls: tuple[CallPiece, ...] = ()


@dataclass(frozen=True, slots=True)
class Finish:
    """The last item of every generation that did not raise."""

    reason: FinishReason
    prompt_tokens: int
    #: all generated tokens, those of ``resume_ids`` included
    completion_tokens: int
    reasoning_tokens: int = 0
    #: tokens of the prompt that came from the prefix cache
    cached_tokens: int = field(default=0, compare=False)
