"""BannedTokens the tokens that a request rules out: all but the allowed ones, and the bad words."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from inference.engine.penalties import Row


class BannedTokens:
    """The bans of the rows of one batch. Rows without any cost nothing.

    A bad word is a sequence of tokens: its last token is banned when the tokens before it have just been generated.
    Another spelling of the word passes, as in vLLM.
    """

    def __init__(self, rows: Sequence[Row], *, device: torch.device) -> None:
        self._device = device
        self._allowed = [
            (place, torch.tensor(row.sampling.allowed_token_ids, dtype=torch.long, device=device))
            for place, row in enumerate(rows)
            if row.sampling.allowed_token_ids
        ]
        self._with_bad_words = [(place, row) for place, row in enumerate(rows) if row.bad_words]

    def apply(self, logits: torch.Tensor) -> None:
        """Change the [rows, vocabulary] logits in place."""
        for place, allowed in self._allowed:
            kept = logits[place, allowed]
            logits[place] = -torch.inf
            logits[place, allowed] = kept
        if not self._with_bad_words:
            return
        banned = [
            (place, word[-1])
            for place, row in self._with_bad_words
            for word in row.bad_words
            if _ends_with(row.generated_ids, word[:-1])
        ]
        if banned:
            places, tokens = torch.tensor(banned, dtype=torch.long, device=self._device).unbind(dim=1)
            logits[places, tokens] = -torch.inf


def _ends_with(tokens: Sequence[int], end: tuple[int, ...]) -> bool:
    return not end or tuple(tokens[-len(end) :]) == end
