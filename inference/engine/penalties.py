"""Makes tokens that occurred before less likely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from inference.engine.grammar import Matcher
from inference.engine.types import Sampling


class Row(Protocol):
    """What the sampler needs of a generation."""

    @property
    def sampling(self) -> Sampling: ...
    @property
    def prompt_ids(self) -> torch.Tensor:
        """[prompt tokens], on any device."""

    @property
    def generated_ids(self) -> Sequence[int]:
        """Tokens generated so far, those of an earlier attempt included."""

    @property
    def matcher(self) -> Matcher | None:
        """The constraint on the next token; None for an unconstrained row."""

    @property
    def bad_words(self) -> Sequence[tuple[int, ...]]:
        """Sequences of tokens that must not be generated."""

    @property
    def forced_token(self) -> int | None:
        """The token that must come next; None leaves it to the sampler."""


class Penalties:
    """Presence and frequency count the generated tokens of a row; repetition counts its prompt too, as in vLLM.

    The counts are computed from the tokens of the rows at the first step, and updated on the device afterwards.
    """

    def __init__(self, rows: Sequence[Row], *, device: torch.device) -> None:
        self._places = [i for i, row in enumerate(rows) if _has_penalty(row.sampling)]
        self._rows = [rows[i] for i in self._places]
        self._device = device
        if not self._rows:
            return
        self._index = torch.tensor(self._places, device=device)
        self._presence = self._column([row.sampling.presence_penalty for row in self._rows])
        self._frequency = self._column([row.sampling.frequency_penalty for row in self._rows])
        self._repetition = self._column([row.sampling.repetition_penalty for row in self._rows])
        self._any_repetition = any(row.sampling.repetition_penalty != 1 for row in self._rows)
        self._any_count = any(row.sampling.presence_penalty or row.sampling.frequency_penalty for row in self._rows)
        #: [rows with penalties, vocabulary]: how often each token was generated; whether it occurred at all
        self._counts: torch.Tensor | None = None
        self._seen: torch.Tensor | None = None

    def apply(self, logits: torch.Tensor) -> None:
        """Change the [rows, vocabulary] logits in place."""
        if not self._rows:
            return
        if self._counts is None or self._seen is None:
            self._counts, self._seen = self._count_all(logits.shape[1])
        penalised = logits[self._index]
        if self._any_repetition:
            repeated = torch.where(penalised > 0, penalised / self._repetition, penalised * self._repetition)
            penalised = torch.where(self._seen, repeated, penalised)
        if self._any_count:
            penalised -= self._frequency * self._counts + self._presence * (self._counts > 0)
        logits[self._index] = penalised

    def add(self, tokens: torch.Tensor) -> None:
        """Count the [rows] tokens that were chosen."""
        if not self._rows or self._counts is None or self._seen is None:
            return
        chosen = tokens[self._index].unsqueeze(1)
        self._counts.scatter_add_(1, chosen, torch.ones_like(chosen, dtype=self._counts.dtype))
        self._seen.scatter_(1, chosen, True)

    def _count_all(self, vocabulary_size: int) -> tuple[torch.Tensor, torch.Tensor]:
        counts = torch.zeros(len(self._rows), vocabulary_size, device=self._device)
        seen = torch.zeros(len(self._rows), vocabulary_size, dtype=torch.bool, device=self._device)
        for i, row in enumerate(self._rows):
            generated = torch.tensor(list(row.generated_ids), dtype=torch.long, device=self._device)
            counts[i].index_add_(0, generated, torch.ones_like(generated, dtype=counts.dtype))
            seen[i, generated] = True
            seen[i, row.prompt_ids.to(self._device)] = True
        return counts, seen

    def _column(self, values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self._device).unsqueeze(1)


def _has_penalty(sampling: Sampling) -> bool:
    return bool(sampling.presence_penalty or sampling.frequency_penalty or sampling.repetition_penalty != 1)
