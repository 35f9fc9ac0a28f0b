"""Auxiliary losses for training, whose heads are dropped afterwards.

With the next-token loss alone the reader learns no letters, because it gets no hint where to look. The renderer knows
the place of every character, so the vision tower is asked for the characters themselves, and one head of two text
layers is pulled to the picture's token in which the character to be written is printed.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ocr.reading.schema import FIELDS
from training.attention import attend
from training.examples import ALPHABET, COLUMNS, MAX_PLACES, ROWS

GUIDED = "guided"
#: loss weight of empty places: most places are empty, and that is easily learned
_NOTHING_WEIGHT = 0.25


class EyeQuestions(nn.Module):
    """Asks each token of the picture, by linear heads, for the characters in its square and whose they are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.letters = nn.Linear(width, ROWS * COLUMNS * (len(ALPHABET) + 1))
        self.fields = nn.Linear(width, ROWS * (len(FIELDS) + 1))
        self.places = nn.Linear(width, ROWS * MAX_PLACES)

    def ask_letters(self, seen: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        """The loss, and the share of printed characters that were right.

        ``seen``: [tokens, width]; ``labels``: [tokens, ROWS * COLUMNS] classes of ``ALPHABET``.
        """
        answers = self.letters(seen).float().view(-1, len(ALPHABET) + 1)
        wanted = labels.reshape(-1).long()
        weight = torch.ones(len(ALPHABET) + 1, device=seen.device)
        weight[0] = _NOTHING_WEIGHT
        printed = wanted > 0
        right = (answers.detach()[printed].argmax(-1) == wanted[printed]).sum().item()
        return F.cross_entropy(answers, wanted, weight=weight), right / max(1, int(printed.sum()))

    def ask_fields(self, seen: Tensor, fields: Tensor, places: Tensor) -> Tensor:
        """The loss of telling which value is printed there, and which of its characters comes first.

        ``fields`` and ``places``: [tokens, ROWS], as in ``EyeLabels``.
        """
        loss = F.cross_entropy(self.fields(seen).float().view(-1, len(FIELDS) + 1), fields.reshape(-1).long())
        answers, wanted = self.places(seen).float().view(-1, MAX_PLACES), places.reshape(-1).long()
        # A batch may hold nothing but pictures of something else: then the sum is over none, and the mean would be NaN.
        wrong = F.cross_entropy(answers, wanted, ignore_index=-1, reduction="sum")
        return loss + wrong / (wanted >= 0).sum().clamp(min=1)


class Guide:
    """Attention with an ear: in the guided layers it also says how far the first head looks from where it should.

    One at a time in a process: Transformers knows it by a name, and the last one made answers to that.
    """

    def __init__(self, model: Any, layers: tuple[int, ...]) -> None:
        # After the model, whose making declares what torchvision lacks; before that the import fails.
        from transformers import AttentionInterface

        self._layers = layers
        self._from = 0
        self._wanted: Tensor | None = None
        self._losses: list[Tensor] = []
        self.hits: list[float] = []
        AttentionInterface.register(GUIDED, self._attend)
        # The text alone: the eye looks both ways.
        model.config.text_config._attn_implementation = GUIDED
        model.model.language_model.config._attn_implementation = GUIDED

    def expect(self, first: int, wanted: Tensor) -> None:
        """In the coming pass, position ``first + i`` of row b should look at position ``wanted[b, i]``; -1 is free."""
        self._from, self._wanted = first, wanted
        self._losses, self.hits = [], []

    def loss(self) -> Tensor:
        """The loss of the pass since ``expect``; call it once."""
        self._wanted = None
        return torch.stack(self._losses).mean()

    def _attend(
        self,
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float,
        **_: Any,
    ) -> tuple[Tensor, None]:
        if self._wanted is not None and module.layer_idx in self._layers:
            self._listen(query, key, scaling, self._wanted)
        # Padding is at the end, so no other token attends to it.
        out = attend(query, key, value, causal=query.shape[2] > 1)
        return out.transpose(1, 2).contiguous(), None

    def _listen(self, query: Tensor, key: Tensor, scaling: float, wanted: Tensor) -> None:
        steps = wanted.shape[1]
        scores = (query[:, 0, self._from : self._from + steps] @ key[:, 0].transpose(1, 2)).float() * scaling
        position = torch.arange(self._from, self._from + steps, device=scores.device)
        later = torch.arange(scores.shape[2], device=scores.device)[None] > position[:, None]
        shares = scores.masked_fill(later, float("-inf")).log_softmax(-1)
        asked = wanted >= 0
        count = asked.sum().clamp(min=1)
        self._losses.append(-shares.gather(2, wanted.clamp(min=0)[..., None])[..., 0][asked].sum() / count)
        self.hits.append(((shares.detach().argmax(-1) == wanted)[asked].sum() / count).item())
