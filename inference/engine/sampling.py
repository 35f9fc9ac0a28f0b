"""Chooses the next token of every row of a batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from inference.engine.types import Sampling


def uniform(seed: int, index: int) -> float:
    """The draw in [0, 1) for token ``index`` of a generation with ``seed``.

    A hash and not a random generator, so that it has no state: neither the other rows of the batch nor a resumed run
    can shift it. The same on every machine.
    """
    digest = hashlib.blake2b(f"{seed}:{index}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) * 2.0**-53


class Sampler:
    """Samples a batch whose rows stay the same from step to step; make a new one when a row joins or leaves."""

    def __init__(
        self,
        rows: Sequence[Sampling],
        *,
        eos_token_ids: Sequence[int],
        placeholders: Sequence[int],
        device: torch.device,
    ) -> None:
        self._rows = list(rows)
        self._device = device
        self._eos = torch.tensor(list(eos_token_ids), dtype=torch.long, device=device)
        # A generated placeholder would be taken for an image when the generation is resumed.
        self._never = torch.tensor(list(placeholders), dtype=torch.long, device=device)
        self._drawn = [i for i, s in enumerate(self._rows) if s.temperature > 0]
        self._temperatures = self._column([self._rows[i].temperature for i in self._drawn])
        self._top_p = self._column([self._rows[i].top_p for i in self._drawn])
        self._any_top_p = any(self._rows[i].top_p < 1 for i in self._drawn)

    def sample(self, logits: torch.Tensor, indexes: Sequence[int]) -> list[int]:
        """The next token of each row.

        ``logits`` is [rows, vocabulary]; ``indexes`` says how many tokens each row has generated before this one.
        """
        logits = logits.float()
        logits.index_fill_(1, self._never, -torch.inf)
        too_short = [i for i, s in enumerate(self._rows) if indexes[i] < s.min_tokens]
        if too_short and len(self._eos):
            rows = torch.tensor(too_short, device=self._device)
            logits[rows[:, None], self._eos] = -torch.inf
        tokens: list[int] = (
            logits.argmax(dim=-1).tolist() if len(self._drawn) < len(self._rows) else [0] * len(self._rows)
        )
        if self._drawn:
            draws = self._column([uniform(self._rows[i].seed, indexes[i]) for i in self._drawn])
            for row, token in zip(self._drawn, self._draw(logits[self._drawn], draws), strict=True):
                tokens[row] = token
        return tokens

    def _draw(self, logits: torch.Tensor, draws: torch.Tensor) -> list[int]:
        # Subtracting the maximum first keeps a tiny temperature from overflowing.
        scaled = (logits - logits.amax(dim=-1, keepdim=True)).double() / self._temperatures
        probabilities = torch.softmax(scaled, dim=-1)
        if self._any_top_p:
            probabilities = self._nucleus(probabilities)
        # The order is that of the ids, not of the probabilities: two tokens that are nearly equally likely may change
        # places with the rounding of another batch, and with them everything behind them.
        cumulative = probabilities.cumsum(dim=-1)
        total = cumulative[:, -1:]
        targets = torch.minimum(draws * total, torch.nextafter(total, torch.zeros_like(total)))
        chosen = torch.searchsorted(cumulative, targets, right=True).squeeze(-1)
        return chosen.clamp_(max=logits.shape[-1] - 1).tolist()

    def _nucleus(self, probabilities: torch.Tensor) -> torch.Tensor:
        ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
        # A token stays when those before it do not reach top_p yet; so the first always stays.
        keep = (ordered.cumsum(dim=-1) - ordered < self._top_p) | (self._top_p >= 1)
        keep[:, 0] = True
        return torch.zeros_like(probabilities).scatter_(1, order, ordered * keep)

    def _column(self, values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64, device=self._device).unsqueeze(1)
