"""Prefill through the fused layers, without most of the last layer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

from inference.engine.fused_layers import FusedLayers
from inference.engine.prefill_unit import Part, Prefill, Prefilled, PrefillUnit
from inference.engine.prompt_attention import EachAlone, Padded, PromptAttention


class FusedPrefill:
    """The tokens of all prompts go through the products as one sequence, and each prompt attends to its own.

    Of the last layer, every token needs the keys and values, but only the last token of a prompt needs the output.
    """

    def __init__(self, fused: FusedLayers, *, pads: bool) -> None:
        """With ``pads``, new prompts attend in one padded product; otherwise each prompt has its own."""
        self._fused = fused
        self._pads = pads

    def choose(self, queue: Sequence[Prefill], tokens: int) -> list[Part]:
        """Only the first prompt is cut, so that short prompts do not wait for a part of a long one.

        Where prompts are padded, the padding counts.
        """
        parts = [Part.next_of(queue[0], tokens)]
        for prefill in queue[1:]:
            more = [*parts, Part.next_of(prefill, prefill.remaining)]
            counts = [part.count for part in more]
            if (max(counts) * len(counts) if self._are_padded(more) else sum(counts)) > tokens:
                break
            parts = more
        return parts

    def run(self, unit: PrefillUnit) -> list[Prefilled]:
        states = unit.embeddings
        attention = self._attention(unit)
        cos, sin = self._angles(unit)
        *layers, last = self._fused.layers
        for number, layer in enumerate(layers):
            states = layer.finish(states, attention.attend(number, layer.project(states, cos, sin)))
            if number < len(unit.deepstack):
                states.index_add_(0, unit.media_tokens, unit.deepstack[number])
        found: list[Prefilled] = []
        if attended := attention.attend_last(last.project(states, cos, sin)):
            ends = list(itertools.accumulate(part.count for part in unit.parts))
            complete = [(part, end - 1) for part, end in zip(unit.parts, ends, strict=True) if part.is_last]
            states = last.finish(states[[end for _, end in complete]], torch.stack(attended))
            logits = self._fused.logits(states).split(1)
            found = [Prefilled(part.prefill.states, row) for (part, _), row in zip(complete, logits, strict=True)]
        for part in unit.parts:
            # What is complete stays as it was, so that it can be run again if its first token cannot be drawn.
            if not part.is_last:
                part.prefill.done = part.stop
        return found

    def _attention(self, unit: PrefillUnit) -> PromptAttention:
        way = Padded if self._are_padded(unit.parts) else EachAlone
        return way(unit.parts, self._fused.heads, layers=len(self._fused.layers), like=unit.embeddings)

    def _are_padded(self, parts: Sequence[Part]) -> bool:
        return self._pads and len(parts) > 1 and not any(part.start for part in parts)

    def _angles(self, unit: PrefillUnit) -> tuple[torch.Tensor, torch.Tensor]:
        """As ``FusedLayer.project`` takes them."""
        axes = len(unit.positions)
        positions = unit.positions[:, None] if axes > 1 else unit.positions
        cos, sin = self._fused.rotary(unit.embeddings[None], positions)
        first, second = sin[0].chunk(2, dim=-1)
        return cos[0].unsqueeze(1), torch.cat((-first, second), dim=-1).unsqueeze(1)
