"""A decode step through the fused layers: one token of every row, over the shared cache."""

from __future__ import annotations

import torch
from torch.nn import functional

from inference.engine.fused_layers import FusedLayer, FusedLayers
from inference.engine.kv_cache import SlotCache


class FusedDecoder:
    """Computes decode steps. It writes keys and values together, and each group of queries reads its keys uncopied."""

    def __init__(self, fused: FusedLayers, cache: SlotCache) -> None:
        self._fused = fused
        self._cache = cache

    def step(self, ids: torch.Tensor, positions: torch.Tensor, unseen: torch.Tensor | None) -> torch.Tensor:
        """Run one token of each row through the model. ``SlotCache.enter_step`` has set the positions before.

        ``ids`` and ``positions`` (rotary) are [rows]; ``unseen``, [rows, span], is true at positions that a row
        must not attend to (those after its own end), or None when every row attends to the whole span. Rows that attend
        alone attend to their own positions. Returns the logits, [rows, vocabulary].
        """
        hidden = self._fused.embed(ids)
        mask = None
        if unseen is not None:
            mask = hidden.new_zeros(unseen.shape).masked_fill_(unseen, -torch.inf)[:, None, None]
        cos, sin = self._angles(positions, hidden.dtype)
        for number, layer in enumerate(self._fused.layers):
            projected = layer.project(hidden, cos, sin)
            hidden = layer.finish(hidden, self._attend(projected, layer, number, mask))
        return self._fused.logits(hidden)

    def _attend(
        self, projected: torch.Tensor, layer: FusedLayer, number: int, mask: torch.Tensor | None
    ) -> torch.Tensor:
        rows, (queries, keys, size) = len(projected), layer.heads
        step, layer_cache = self._cache.step, self._cache.layers[number]
        layer_cache.states[step.rows, :, step.positions] = projected[:, queries:]
        past_keys, past_values = layer_cache.read(rows, step.span)
        # The queries that share a key are passed as if they were successive tokens, so that no key is repeated.
        grouped = projected[:, :queries].unflatten(1, (keys, queries // keys))
        seen = functional.scaled_dot_product_attention(grouped, past_keys, past_values, attn_mask=mask)
        for row, length in step.alone:
            past_keys, past_values = layer_cache.read_row(row, length)
            seen[row] = functional.scaled_dot_product_attention(grouped[row : row + 1], past_keys, past_values)[0]
        return seen.reshape(rows, queries * size)

    def _angles(self, positions: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """[rows, 1, head size] each. In generated text all axes of mrope have the same position."""
        half = positions[:, None].float() * self._fused.rotary.inv_freq
        scaling = self._fused.rotary.attention_scaling
        cos, sin = half.cos() * scaling, half.sin() * scaling
        return (
            torch.cat((cos, cos), dim=-1).to(dtype).unsqueeze(1),
            torch.cat((-sin, sin), dim=-1).to(dtype).unsqueeze(1),
        )
