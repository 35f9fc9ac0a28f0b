"""Prefill through the fused layers, without padding and without most of the last layer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch.nn import functional

from inference.engine.fused_layers import FusedLayers
from inference.engine.prefill_unit import Part, Prefill, Prefilled, PrefillUnit


class FusedPrefill:
    """The tokens of all prompts go through the products as one sequence, and each prompt attends to its own.

    Of the last layer, every token needs the keys and values, but only the last token of a prompt needs the output.
    """

    def __init__(self, fused: FusedLayers) -> None:
        self._fused = fused
        self._queries, self._keys, self._size = fused.heads

    def choose(self, queue: Sequence[Prefill], tokens: int) -> list[Part]:
        """Only the first prompt is cut, so that short prompts do not wait for a part of a long one."""
        parts = [Part.next_of(queue[0], tokens)]
        for prefill in queue[1:]:
            tokens -= parts[-1].count
            if prefill.remaining > tokens:
                break
            parts.append(Part.next_of(prefill, tokens))
        return parts

    def run(self, unit: PrefillUnit) -> list[Prefilled]:
        states = unit.embeddings
        for part in unit.parts:
            self._make_room(part.prefill, states)
        cos, sin = self._angles(unit)
        masks = [_mask(part, states) for part in unit.parts]
        *layers, last = self._fused.layers
        for number, layer in enumerate(layers):
            projected = layer.project(states, cos, sin).split([part.count for part in unit.parts])
            attended = [
                self._attend(part, number, own, mask)
                for part, own, mask in zip(unit.parts, projected, masks, strict=True)
            ]
            states = layer.finish(states, torch.cat(attended))
            if number < len(unit.deepstack):
                states.index_add_(0, unit.media_tokens, unit.deepstack[number])
        projected = last.project(states, cos, sin).split([part.count for part in unit.parts])
        for part, own in zip(unit.parts, projected, strict=True):
            self._keep(part, len(layers), own)
        found = self._complete(unit, states, projected)
        for part in unit.parts:
            # What is complete stays as it was, so that it can be run again if its first token cannot be drawn.
            if not part.is_last:
                part.prefill.done = part.stop
        return found

    def _complete(self, unit: PrefillUnit, states: torch.Tensor, projected: Sequence[torch.Tensor]) -> list[Prefilled]:
        """The last layer's output for the last token of each prompt that ends in this unit, and its logits."""
        ends = itertools.accumulate(part.count for part in unit.parts)
        complete = [
            (part, end - 1, self._attend_to_all(part, own[-1]))
            for part, end, own in zip(unit.parts, ends, projected, strict=True)
            if part.is_last
        ]
        if not complete:
            return []
        rows = states[torch.tensor([end for _, end, _ in complete])]
        states = self._fused.layers[-1].finish(rows, torch.stack([attended for _, _, attended in complete]))
        logits = self._fused.logits(states).split(1)
        return [Prefilled(part.prefill.states, row) for (part, _, _), row in zip(complete, logits, strict=True)]

    def _make_room(self, prefill: Prefill, like: torch.Tensor) -> None:
        """Allocate the keys and values of the whole prompt when it begins, and copy the cached prefix into them."""
        tokens, done = len(prefill.prompt.ids), prefill.done
        if prefill.states and prefill.states[0].shape[2] == tokens:
            return
        cached = prefill.states
        shape = (1, 2 * self._keys, tokens, self._size)
        prefill.states = [like.new_empty(shape) for _ in self._fused.layers]
        for layer, prefix in zip(prefill.states, cached, strict=False):
            layer[:, :, :done] = prefix

    def _keep(self, part: Part, number: int, projected: torch.Tensor) -> torch.Tensor:
        """Write keys and values of layer ``number``, and return all up to them, [2 x key heads, tokens, head size]."""
        kept = part.prefill.states[number][0, :, : part.stop]
        kept[:, part.start :] = projected[:, self._queries :].transpose(0, 1)
        return kept

    def _attend(self, part: Part, number: int, projected: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """[tokens, heads x head size]. ``projected`` and ``mask`` are those of this part."""
        group = self._queries // self._keys
        kept = self._keep(part, number, projected)
        # Key heads are the batch and the queries that share one are its heads, so that no key is repeated.
        keys, values = kept.unsqueeze(1).expand(-1, group, -1, -1).chunk(2)
        queries = projected[:, : self._queries].transpose(0, 1).unflatten(0, (self._keys, group))
        seen = functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, is_causal=mask is None and part.count > 1
        )
        return seen.permute(2, 0, 1, 3).flatten(1)

    def _attend_to_all(self, part: Part, projected: torch.Tensor) -> torch.Tensor:
        """[heads x head size], of the prompt's last token, whose ``projected`` this is, in the last layer."""
        keys, values = part.prefill.states[-1].chunk(2, dim=1)
        queries = projected[: self._queries].unflatten(0, (self._keys, -1))
        return functional.scaled_dot_product_attention(queries[None], keys, values).flatten()

    def _angles(self, unit: PrefillUnit) -> tuple[torch.Tensor, torch.Tensor]:
        """As ``FusedLayer.project`` takes them."""
        axes = len(unit.positions)
        positions = unit.positions[:, None] if axes > 1 else unit.positions
        cos, sin = self._fused.rotary(unit.embeddings[None], positions)
        first, second = sin[0].chunk(2, dim=-1)
        return cos[0].unsqueeze(1), torch.cat((-first, second), dim=-1).unsqueeze(1)


def _mask(part: Part, like: torch.Tensor) -> torch.Tensor | None:
    """[tokens, all tokens up to them], added to the scores. None: ``is_causal`` is enough, or one token sees all."""
    if not part.start or part.count == 1:
        return None
    return like.new_full((part.count, part.stop), -torch.inf).triu_(part.start + 1)
