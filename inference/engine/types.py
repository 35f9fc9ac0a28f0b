"""What goes into the engine and what comes out of it. Plain values: no Django, no tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from PIL import Image

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True, eq=False)
class Video:
    """Frames sampled from a video, in order."""

    #: uint8 RGB frames, shape [frames, height, width, 3]
    frames: np.ndarray
    #: when each frame is shown, in seconds from the start of the video
    timestamps_seconds: Sequence[float]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen, and when to stop."""

    max_tokens: int
    #: 0 takes the most likely token
    temperature: float = 0.0
    #: keep the smallest set of tokens whose probabilities sum to this
    top_p: float = 1.0
    #: the draw of token i depends on (seed, i) alone
    seed: int = 0
    #: generation ends before the first of these; they are not part of the text
    stop: tuple[str, ...] = ()
    #: no end-of-sequence token and no stop string counts before so many tokens
    min_tokens: int = 0
    #: go on past the end-of-sequence token, to max_tokens
    ignore_eos: bool = False


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


@dataclass(frozen=True, slots=True)
class Delta:
    """What a step added. The text after k tokens follows from those k tokens alone: a resumed run repeats nothing."""

    token_ids: tuple[int, ...]
    text: str = ""
    #: text inside <think>…</think>, which is not part of the answer
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Finish:
    """The last item of every generation that did not raise."""

    reason: FinishReason
    prompt_tokens: int
    #: all generated tokens, those of ``resume_ids`` included
    completion_tokens: int
    reasoning_tokens: int = 0
