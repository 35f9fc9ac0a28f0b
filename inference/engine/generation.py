"""One request inside the engine, from its prompt to its end."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Collection, Sequence

from inference.engine.detokenizer import Decoded, Detokenizer
from inference.engine.errors import InvalidConstraint, InvalidSampling, caused_by
from inference.engine.grammar import Matcher
from inference.engine.handle import Handle
from inference.engine.prompts import Prompt
from inference.engine.sampling import RawLogprobs
from inference.engine.types import Delta, Finish, FinishReason, GenerationRequest, Likelihood, Sampling, TokenLogprobs
from inference.engine.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

_arrivals = itertools.count()
#: reported for impossible tokens, as OpenAI does; JSON has no infinity
MIN_LOGPROB = -9999.0


class Generation:
    """Takes the tokens of one request, delivers their text, and decides when it ends."""

    def __init__(
        self,
        request: GenerationRequest,
        prompt: Prompt,
        handle: Handle,
        *,
        vocabulary: Vocabulary,
        eos_token_ids: Collection[int],
        max_context_tokens: int,
        matcher: Matcher | None = None,
        bad_words: Sequence[tuple[int, ...]] = (),
    ) -> None:
        """``matcher`` enforces the request's constraint, and has taken no token.

        Raises InvalidSampling; InvalidConstraint when the tokens of an earlier attempt break the constraint.
        """
        _check_token_ids(request.sampling, vocabulary, eos_token_ids)
        self.sampling = request.sampling
        self.handle = handle
        self.rope_delta = prompt.rope_delta
        #: sequence number of arrival
        self.arrival = next(_arrivals)
        #: positions in the cache: all tokens except the last, whose keys and values the next step computes
        self.cached = 0
        #: [prompt tokens]
        self.prompt_ids = prompt.ids[: prompt.prompt_tokens]
        #: tokens of the answer, those of the earlier attempt included
        self.generated_ids: list[int] = []
        self.matcher = matcher
        self.bad_words = bad_words
        self._cached_tokens: int | None = None
        self._prompt = prompt
        self._resumed = len(request.resume_ids)
        self._vocabulary = vocabulary
        self._prompt_tokens = prompt.prompt_tokens
        eos = () if request.sampling.ignore_eos else eos_token_ids
        self._ends = frozenset((*eos, *request.sampling.stop_token_ids))
        most = _max_tokens(request.sampling, may_think=prompt.opens_reasoning or prompt.may_open_reasoning)
        self._most = min(most, max_context_tokens - prompt.prompt_tokens)
        self._detokenizer = Detokenizer(
            vocabulary,
            stop=request.sampling.stop,
            min_tokens=request.sampling.min_tokens,
            in_reasoning=prompt.opens_reasoning,
            reads_calls=bool(request.tools),
        )
        self._one_call = request.one_call
        self._end: FinishReason | None = "length" if self._most <= 0 else None
        for token in request.resume_ids:
            if self._end is None:
                # The text was delivered by the earlier attempt.
                self._take(token)
        handle.prepared(prompt_tokens=prompt.prompt_tokens, reasoning_tokens=self._detokenizer.reasoning_tokens)

    @property
    def last_token(self) -> int:
        """The newest token. There is one after the prefill."""
        return self.generated_ids[-1]

    @property
    def tokens_held(self) -> int:
        """Tokens of prompt and answer so far."""
        return self._prompt_tokens + len(self.generated_ids)

    @property
    def max_tokens_held(self) -> int:
        """Upper limit of its total tokens."""
        return self._prompt_tokens + self._most

    @property
    def forced_token(self) -> int | None:
        """The next token where it is forced: the end of the reasoning when its budget is spent.

        It depends on the tokens so far alone, so a takeover forces the same.
        """
        budget = self.sampling.thought_budget
        is_spent = budget is not None and self._detokenizer.reasoning_tokens >= budget
        return self._vocabulary.think_end if is_spent and self._detokenizer.in_reasoning else None

    def whole_prompt(self) -> Prompt:
        """What must be prefilled for the next token: the prompt and all generated tokens."""
        new = self.generated_ids[self._resumed :]
        return self._prompt.extended(new) if new else self._prompt

    def keys(self) -> tuple[int, ...]:
        """The key of each token so far (see ``block_digests``)."""
        return (*self._prompt.keys, *self.generated_ids[self._resumed :])

    def note_reuse(self, tokens: int) -> None:
        """Record how many prompt tokens came from the cache.

        Only the first call counts, because later calls find the tokens that this generation has cached itself.
        """
        if self._cached_tokens is None:
            self._cached_tokens = min(tokens, self._prompt_tokens)

    def finish_if_ended(self) -> None:
        """Deliver the end to the handle if the generation has ended."""
        if self._end is not None:
            counts = (self._prompt_tokens, len(self.generated_ids), self._detokenizer.reasoning_tokens)
            self.handle.finish(Finish(self._end, *counts, self._cached_tokens or 0))

    def accept(self, token: int, logprobs: RawLogprobs | None = None) -> None:
        """Deliver the next token, and the end if this is the last."""
        try:
            piece = self._take(token)
        except InvalidConstraint as error:
            self.handle.finish(error)
            return
        except Exception as error:
            # An exception here would end the model thread, which all other rows need.
            logger.exception("a token could not be taken")
            self.handle.finish(caused_by(error, "The answer could not be read."))
            return
        told = () if logprobs is None else (self._named(token, logprobs),)
        delta = Delta((token,), piece.text, piece.reasoning, told, calls=piece.calls)
        self.handle.put(delta, reasoning_tokens=self._detokenizer.reasoning_tokens)
        self.finish_if_ended()

    def _take(self, token: int) -> Decoded:
        is_end = token in self._ends and len(self.generated_ids) >= self.sampling.min_tokens
        self.generated_ids.append(token)
        if self.matcher is not None:
            if is_end:
                self.matcher.check()
            else:
                self.matcher.take(token)
        piece = self._detokenizer.feed(token, is_text=not is_end)
        is_complete = self.matcher is not None and self.matcher.is_complete
        has_called = self._one_call and self._detokenizer.complete_calls > 0
        if self._detokenizer.stopped or is_end or is_complete or has_called:
            self._end = "tool_calls" if self._detokenizer.calls else "stop"
        elif len(self.generated_ids) >= self._most or self._is_answered():
            self._end = "length"
        return piece if self._end is None else piece + self._detokenizer.flush()

    def _is_answered(self) -> bool:
        """Whether the answer has used up its tokens, when the reasoning has a separate budget."""
        if self.sampling.max_reasoning_tokens is None:
            return False
        return len(self.generated_ids) - self._detokenizer.reasoning_tokens >= self.sampling.max_tokens

    def _named(self, token: int, logprobs: RawLogprobs) -> TokenLogprobs:
        likeliest = tuple(self._likelihood(*entry) for entry in logprobs.top)
        return TokenLogprobs(self._likelihood(token, logprobs.chosen), likeliest)

    def _likelihood(self, token: int, logprob: float) -> Likelihood:
        known = self._vocabulary.token_bytes
        name = self._vocabulary.names.get(token)
        raw = known[token] if name is None and token < len(known) else None
        # No model outputs U+0000 deliberately, and PostgreSQL cannot store it.
        text = name or (raw or b"").decode(errors="replace").replace("\0", "\ufffd")
        return Likelihood(token, text, raw, max(MIN_LOGPROB, logprob))


def _max_tokens(sampling: Sampling, *, may_think: bool) -> int:
    """Maximum tokens of reasoning and answer together."""
    if sampling.max_reasoning_tokens is None or not may_think:
        return sampling.max_tokens
    # The two tags are tokens of the reasoning too.
    return sampling.max_tokens + sampling.max_reasoning_tokens + 2


def _check_token_ids(sampling: Sampling, vocabulary: Vocabulary, eos_token_ids: Collection[int]) -> None:
    known = len(vocabulary.token_bytes)
    for field, ids in (
        ("logit_bias", [token_id for token_id, _ in sampling.logit_bias]),
        ("stop_token_ids", sampling.stop_token_ids),
        ("allowed_token_ids", sampling.allowed_token_ids),
    ):
        for token_id in ids:
            if not 0 <= token_id < known:
                raise InvalidSampling(field, f"This model has no token with the id {token_id}.")
    never = {*vocabulary.placeholders, *((*eos_token_ids, *sampling.stop_token_ids) if sampling.min_tokens else ())}
    if sampling.allowed_token_ids and never.issuperset(sampling.allowed_token_ids):
        raise InvalidSampling("allowed_token_ids", "None of these tokens may begin the answer.")
