"""What goes into the engine and what comes out of it. Plain values: no Django, no tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from PIL import Image

from inference.engine.tool_calls import CallPiece

PromptEnding = Literal["turn", "message", "inside"]
ConstraintKind = Literal["json_object", "json_schema", "regex", "choice", "grammar", "calls"]
#: content_filter comes from other servers only
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
    """How the next token is chosen, and when to stop. The defaults ask for nothing.

    The steps come as in vLLM's sampler: min_tokens and logit_bias, penalties, temperature, min_p, top_k, top_p.
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
    #: no end-of-sequence token, stop token or stop string counts before so many tokens
    min_tokens: int = 0
    #: go on past the end-of-sequence token, to max_tokens
    ignore_eos: bool = False
    #: keep so many of the likeliest tokens; 0 keeps all
    top_k: int = 0
    #: keep the tokens that have at least this part of the likeliest one's probability
    min_p: float = 0.0
    #: taken from the logit of each token that was generated before, once
    presence_penalty: float = 0.0
    #: taken from the logit of a token for each time that it was generated before
    frequency_penalty: float = 0.0
    #: a token of the prompt or the answer has its logit divided by this when positive, multiplied when negative
    repetition_penalty: float = 1.0
    #: (token id, what is added to its logit), each id once
    logit_bias: tuple[tuple[int, float], ...] = ()
    #: these end the generation as the end-of-sequence token does, also with ignore_eos; they are not part of the text
    stop_token_ids: tuple[int, ...] = ()
    #: the likeliest tokens to report beside each chosen one; None reports nothing
    logprobs: int | None = None
    #: no other tokens may come; none lists all
    allowed_token_ids: tuple[int, ...] = field(default=(), metadata={"since": 2})
    #: texts that must not come, each by the tokens that it has alone and behind a space
    bad_words: tuple[str, ...] = field(default=(), metadata={"since": 2})
    #: max_tokens counts the answer alone, and a thought before it may have so many tokens; None: it counts both
    max_reasoning_tokens: int | None = field(default=None, metadata={"since": 2})
    #: what the request itself grants a thought. One that has used it up is ended by the model's own marker
    thinking_token_budget: int | None = field(default=None, metadata={"since": 2})
    #: for chat templates with a switch; None leaves it to the template
    enable_thinking: bool | None = field(default=None, metadata={"since": 2})
    #: for chat templates that take it: none, minimal, low, medium or high; "" leaves it to the template
    reasoning_effort: str = field(default="", metadata={"since": 2})

    @property
    def thought_budget(self) -> int | None:
        """Tokens that a thought may have; None leaves its end to the model."""
        granted = (self.thinking_token_budget, self.max_reasoning_tokens)
        return min((tokens for tokens in granted if tokens is not None), default=None)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Sampling:
        """The fields by name, after JSON has made lists of tuples. Fields may be missing."""
        return cls(**{name: _with_tuples(value) for name, value in stored.items()})


def _with_tuples(value: Any) -> Any:
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class Constraint:
    """What the text of an answer must be. It holds for the answer, and not for the thought before it."""

    kind: ConstraintKind
    #: nothing, of any JSON object; a JSON schema; a regular expression, which the whole text matches; a JSON list of
    #: texts; a grammar in Lark's notation, as llguidance reads it; of calls what ``calls_source`` gives
    source: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class GenerationRequest:
    """One generation: a conversation, its media in order of appearance, and how to sample."""

    #: chat-template messages; content is a list of {"type": "text", "text": …}, {"type": "image"} and {"type": "video"}
    messages: Sequence[dict[str, Any]]
    sampling: Sampling
    images: Sequence[Image.Image] = ()
    videos: Sequence[Video] = ()
    #: tokens generated and committed by an earlier attempt; generation goes on after them
    resume_ids: Sequence[int] = field(default=())
    constraint: Constraint | None = None
    #: how the prompt ends: by opening a turn of the model, with the last message, or inside the last message, which is
    #: the model's and goes on
    ending: PromptEnding = "turn"
    #: functions that the answer may call, as OpenAI's ``tools`` has them; without any, no call is looked for
    tools: Sequence[dict[str, Any]] = ()
    #: the answer ends behind its first call
    one_call: bool = False
    #: one more answer to a question that is answered already: it waits until every first answer has a row
    is_further: bool = False


@dataclass(frozen=True, slots=True)
class Likelihood:
    """A token that the model could say next, and how likely it was."""

    token_id: int
    #: its characters, U+FFFD for bytes that are none by themselves; the name of a token that is never text
    token: str
    #: None for a token that is never text
    raw: bytes | None
    #: natural logarithm of the probability that the model itself gave it: before bias, penalties, temperature and cuts
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
    #: one of each of ``token_ids`` when the request asks for them, else none
    logprobs: tuple[TokenLogprobs, ...] = ()
    #: text in which another server says that it will not answer
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
    #: of the prompt, those whose keys and values were kept from an earlier request
    cached_tokens: int = field(default=0, compare=False)
