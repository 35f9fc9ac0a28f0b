"""Chooses the next token of every row of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from inference.engine.banned_tokens import BannedTokens
from inference.engine.masks import Masks
from inference.engine.noise import Noise
from inference.engine.penalties import Penalties, Row
from inference.engine.truncation import Truncation


@dataclass(frozen=True, slots=True)
class RawLogprobs:
    """Natural logarithms of the model's own probabilities, before bias, penalties and all later steps."""

    chosen: float
    #: (token id, logarithm), the likeliest first
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Sampled:
    """What a step chose for each row."""

    tokens: list[int]
    #: None for a row that does not ask for them
    logprobs: Sequence[RawLogprobs | None]


class Sampler:
    """Samples a batch whose rows stay the same from step to step; make a new one when a row joins or leaves.

    Per-row parameters are copied to the device when the sampler is made. A step synchronizes with the device once, to
    fetch the chosen tokens, and skips what no row asks for. The tokens of the rows are read when the sampler is made
    and at its first step; afterwards it counts the tokens that it returns. Grammars and forced tokens are evaluated
    at each step, after the tokens of the previous step have been accepted.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        *,
        eos_token_ids: Sequence[int],
        placeholders: Sequence[int],
        device: torch.device,
    ) -> None:
        self._device = device
        self._steps = 0
        # A generated placeholder would be mistaken for an image when the generation is resumed.
        self._never = self._longs(placeholders)
        self._set_up_ends(rows, eos_token_ids)
        bias = [(i, *entry) for i, row in enumerate(rows) for entry in row.sampling.logit_bias]
        self._biased = self._longs([i for i, _, _ in bias]), self._longs([token for _, token, _ in bias])
        self._bias = torch.tensor([value for _, _, value in bias], dtype=torch.float32, device=device)
        self._penalties = Penalties(rows, device=device)
        self._masks = Masks(rows, device=device)
        self._banned = BannedTokens(rows, device=device)
        self._set_up_draws(rows)
        self._with_budget = [(i, row) for i, row in enumerate(rows) if row.sampling.thought_budget is not None]
        self._told = [(i, asked) for i, row in enumerate(rows) if (asked := row.sampling.logprobs) is not None]
        self._told_rows = self._longs([i for i, _ in self._told])

    def sample(self, logits: torch.Tensor) -> Sampled:
        """The next token of each row of ``logits``, [rows, vocabulary], which may be changed."""
        logits = logits.float()
        raw = torch.log_softmax(logits[self._told_rows], dim=-1) if self._told else None
        logits.index_fill_(1, self._never, -torch.inf)
        if self._steps < self._last_end_forbidden:
            forbidden = self._end_forbidden_until > self._steps
            logits[self._ends] = logits[self._ends].masked_fill(forbidden, -torch.inf)
        if len(self._bias):
            logits[self._biased] += self._bias
        self._penalties.apply(logits)
        self._masks.apply(logits)
        self._banned.apply(logits)
        tokens = self._choose(logits)
        for place, generation in self._with_budget:
            if (forced := generation.forced_token) is not None:
                tokens[place] = forced
        self._penalties.add(tokens)
        self._steps += 1
        logprobs: list[RawLogprobs | None] = [None] * len(logits)
        if raw is not None:
            for (row, _), told in zip(self._told, self._tell(raw, tokens), strict=True):
                logprobs[row] = told
        return Sampled(tokens.tolist(), logprobs)

    def _choose(self, logits: torch.Tensor) -> torch.Tensor:
        if not self._any_drawn:
            return logits.argmax(dim=-1)
        if self._all_drawn:
            return self._draw(logits)
        tokens = logits.argmax(dim=-1)
        return tokens.index_copy_(0, self._drawn, self._draw(logits[self._drawn]))

    def _draw(self, logits: torch.Tensor) -> torch.Tensor:
        """Gumbel-max trick: argmin(E / p), with E from the exponential distribution, is a sample of p.

        The code takes argmax because the numbers of ``Noise`` are -E. A rounding error in the logits shifts only the
        boundary between two tokens; with a draw along the cumulative probabilities it would shift the boundaries of
        all later tokens too.
        """
        maxima = logits.amax(dim=-1, keepdim=True)
        self._truncation.apply(logits, maxima)
        chosen = []
        for part, numbers in self._noise.next(logits.shape[1]):
            # 1 / p up to a factor; inf for a token that was cut off, or so unlikely that it overflows.
            inverse = (maxima[part] - logits[part]).double().div_(self._temperatures[part]).exp_()
            chosen.append(inverse.mul_(numbers).argmax(dim=-1))
        return chosen[0] if len(chosen) == 1 else torch.cat(chosen)

    def _tell(self, raw: torch.Tensor, tokens: torch.Tensor) -> list[RawLogprobs]:
        chosen = raw.gather(1, tokens[self._told_rows].unsqueeze(1)).squeeze(1)
        top = raw.topk(max(asked for _, asked in self._told))
        fetched = zip(self._told, chosen.tolist(), top.indices.tolist(), top.values.tolist(), strict=True)
        return [
            RawLogprobs(logprob, tuple(zip(ids[:asked], values[:asked], strict=True)))
            for (_, asked), logprob, ids, values in fetched
        ]

    def _set_up_ends(self, rows: Sequence[Row], eos_token_ids: Sequence[int]) -> None:
        forbidden = [
            (i, token, row.sampling.min_tokens - len(row.generated_ids))
            for i, row in enumerate(rows)
            if row.sampling.min_tokens > len(row.generated_ids)
            for token in sorted({*eos_token_ids, *row.sampling.stop_token_ids})
        ]
        self._ends = self._longs([i for i, _, _ in forbidden]), self._longs([token for _, token, _ in forbidden])
        self._end_forbidden_until = self._longs([steps for _, _, steps in forbidden])
        self._last_end_forbidden = max((steps for _, _, steps in forbidden), default=0)

    def _set_up_draws(self, rows: Sequence[Row]) -> None:
        drawn = [i for i, row in enumerate(rows) if row.sampling.temperature > 0]
        self._any_drawn, self._all_drawn = bool(drawn), len(drawn) == len(rows)
        if not drawn:
            return
        self._drawn = self._longs(drawn)
        samplings = [rows[i].sampling for i in drawn]
        temperatures = torch.tensor([s.temperature for s in samplings], dtype=torch.float64, device=self._device)
        self._temperatures = temperatures.unsqueeze(1)
        self._truncation = Truncation(samplings, temperatures=self._temperatures)
        places = [len(rows[i].generated_ids) for i in drawn]
        self._noise = Noise([s.seed for s in samplings], places, device=self._device)

    def _longs(self, values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(list(values), dtype=torch.long, device=self._device)
