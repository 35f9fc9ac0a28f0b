"""Removes unlikely tokens before the draw: min_p, then top_k, then top_p, as in vLLM's sampler."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from inference.engine.types import Sampling


class Truncation:
    """Every cut keeps the tokens at or above some logit. Tokens with equal logits are kept or removed together: their
    order in a sort may change with the shape of the batch, and in half precision many logits are equal.
    """

    def __init__(self, samplings: Sequence[Sampling], *, temperatures: torch.Tensor) -> None:
        """``temperatures`` is [rows, 1], float64, all above 0."""
        device = temperatures.device
        self._temperatures = temperatures
        self._floor: torch.Tensor | None = None
        if any(s.min_p > 0 for s in samplings):
            floors = [math.log(s.min_p) if s.min_p > 0 else -math.inf for s in samplings]
            self._floor = torch.tensor(floors, dtype=torch.float64, device=device).unsqueeze(1) * temperatures
        cut = [i for i, s in enumerate(samplings) if s.top_k > 0 or s.top_p < 1]
        self._any_sorted = bool(cut)
        if not cut:
            return
        self._rows = torch.tensor(cut, dtype=torch.long, device=device)
        top_k = [samplings[i].top_k for i in cut]
        #: how many of the likeliest tokens have to be sorted, None for all
        self._most = max(top_k) if min(top_k) > 0 else None
        self._top_k = torch.tensor([k or 2**31 for k in top_k], device=device).unsqueeze(1)
        self._any_top_p = any(samplings[i].top_p < 1 for i in cut)
        top_p = [samplings[i].top_p for i in cut]
        # Rounding must not remove tokens where top_p removes none.
        top_p = [p if p < 1 else math.inf for p in top_p]
        self._top_p = torch.tensor(top_p, dtype=torch.float64, device=device).unsqueeze(1)

    def apply(self, logits: torch.Tensor, maxima: torch.Tensor) -> None:
        """Set the [rows, vocabulary] logits of removed tokens to -inf, in place. ``maxima`` are [rows, 1]."""
        if self._floor is not None:
            logits.masked_fill_(logits < maxima + self._floor, -torch.inf)
        if self._any_sorted:
            cut = logits[self._rows]
            cut.masked_fill_(cut < self._least_kept(cut), -torch.inf)
            logits[self._rows] = cut

    def _least_kept(self, logits: torch.Tensor) -> torch.Tensor:
        size = logits.shape[1]
        ordered = logits.topk(size if self._most is None else min(self._most, size)).values
        places = torch.arange(ordered.shape[1], device=logits.device)
        keep = places < self._top_k
        if self._any_top_p:
            weights = ((ordered - ordered[:, :1]).double() / self._temperatures[self._rows]).exp_().mul_(keep)
            sums = weights.cumsum(dim=-1)
            # A token is kept while the sum of those before it is below top_p.
            keep &= sums - weights < self._top_p * sums[:, -1:]
        return ordered.gather(1, keep.sum(dim=-1, keepdim=True).sub_(1).clamp_(min=0))
