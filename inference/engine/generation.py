"""The life of one request inside the engine, from its prompt to its end."""

from __future__ import annotations

import itertools
from collections.abc import Collection

from inference.engine.detokenizer import Detokenizer, Piece
from inference.engine.handle import Handle
from inference.engine.prompts import Prompt
from inference.engine.types import Delta, Finish, FinishReason, GenerationRequest
from inference.engine.vocabulary import Vocabulary

_arrivals = itertools.count()


class Generation:
    """Takes the tokens of one request, delivers their text, and says when it ends."""

    def __init__(
        self,
        request: GenerationRequest,
        prompt: Prompt,
        handle: Handle,
        *,
        vocabulary: Vocabulary,
        eos_token_ids: Collection[int],
        max_context_tokens: int,
    ) -> None:
        self.sampling = request.sampling
        self.handle = handle
        self.rope_delta = prompt.rope_delta
        #: when it came, against the others
        self.arrival = next(_arrivals)
        #: positions in the cache: all tokens but the last, whose keys and values the next step computes
        self.cached = 0
        #: tokens generated, those of the earlier attempt included
        self.generated = 0
        self.last_token = 0
        self._prompt = prompt
        self._prompt_tokens = prompt.prompt_tokens
        #: generated since the prompt was made
        self._tokens: list[int] = []
        self._eos = frozenset(eos_token_ids)
        self._most = min(request.sampling.max_tokens, max_context_tokens - prompt.prompt_tokens)
        self._detokenizer = Detokenizer(
            vocabulary,
            stop=request.sampling.stop,
            min_tokens=request.sampling.min_tokens,
            in_reasoning=prompt.opens_reasoning,
        )
        self._end: FinishReason | None = "length" if self._most <= 0 else None
        for token in request.resume_ids:
            if self._end is None:
                # The text was delivered by the earlier attempt.
                self._take(token)
        handle.prepared(prompt_tokens=prompt.prompt_tokens, reasoning_tokens=self._detokenizer.reasoning_tokens)

    @property
    def tokens_held(self) -> int:
        """Tokens of prompt and answer so far."""
        return len(self._prompt.ids) + len(self._tokens)

    @property
    def tokens_at_most(self) -> int:
        """What it can come to."""
        return self._prompt_tokens + self._most

    def whole_prompt(self) -> Prompt:
        """What must be read for the next token: the prompt and all that was generated."""
        return self._prompt.extended(self._tokens) if self._tokens else self._prompt

    def keys(self) -> tuple[int, ...]:
        """What each token so far stands for (``block_digests``)."""
        return (*self._prompt.keys, *self._tokens)

    def finish_if_ended(self) -> None:
        """Tell the caller that the generation has ended, if it has."""
        if self._end is not None:
            counts = (self._prompt_tokens, self.generated, self._detokenizer.reasoning_tokens)
            self.handle.finish(Finish(self._end, *counts))

    def accept(self, token: int) -> None:
        """Deliver the next token, and the end if this is the last."""
        self._tokens.append(token)
        piece = self._take(token)
        delta = Delta((token,), piece.text, piece.reasoning)
        self.handle.put(delta, reasoning_tokens=self._detokenizer.reasoning_tokens)
        self.finish_if_ended()

    def _take(self, token: int) -> Piece:
        self.last_token = token
        is_eos = token in self._eos and not self.sampling.ignore_eos and self.generated >= self.sampling.min_tokens
        self.generated += 1
        piece = self._detokenizer.feed(token)
        if self._detokenizer.stopped or is_eos:
            self._end = "stop"
        elif self.generated >= self._most:
            self._end = "length"
        return piece if self._end is None else piece + self._detokenizer.flush()
