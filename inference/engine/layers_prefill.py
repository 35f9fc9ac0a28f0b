"""Prefill through the model's own layers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import DynamicCache

from inference.engine.prefill_unit import Part, Prefill, Prefilled, PrefillUnit


class LayersPrefill:
    """Takes together the prompts that have the same number of tokens in the cache. The shorter ones are padded."""

    def __init__(self, model: Any) -> None:
        self._decoder: Any = model.get_decoder()
        self._head: Any = model.get_output_embeddings()

    def choose(self, queue: Sequence[Prefill], tokens: int) -> list[Part]:
        head = queue[0]
        group = [head]
        if head.remaining <= tokens and head.cache is None:
            group += itertools.takewhile(lambda other: other.cache is None and other.done == head.done, queue[1:])
            # The cost is rows times the length of the longest.
            while len(group) > 1 and max(p.remaining for p in group) * len(group) > tokens:
                group.pop()
        return [Part.next_of(prefill, tokens) for prefill in group]

    def run(self, unit: PrefillUnit) -> list[Prefilled]:
        prefills = [part.prefill for part in unit.parts]
        counts = [part.count for part in unit.parts]
        # Padding is on the right, where causal attention ignores it.
        embeddings = pad_sequence(unit.embeddings.split(counts), batch_first=True)
        positions = pad_sequence(unit.positions.t().split(counts), batch_first=True).movedim(-1, 0)
        cache = prefills[0].cache or _cache_of([prefill.states for prefill in prefills])
        for layer in cache.layers:
            # A pass that failed may have added to some layers.
            if (added := layer.get_seq_length() - prefills[0].done) > 0:
                layer.crop(-added)
        hidden = self._decoder(
            inputs_embeds=embeddings,
            position_ids=positions if len(positions) > 1 else positions[0],
            past_key_values=cache,
            use_cache=True,
            **_visual(unit, counts),
        ).last_hidden_state
        if not unit.parts[0].is_last:
            prefills[0].cache, prefills[0].states = cache, []
            prefills[0].done += counts[0]
            return []
        last = torch.tensor(counts, device=hidden.device) - 1
        # A model split over devices outputs on a different device than its input.
        logits = self._head(hidden[torch.arange(len(last), device=hidden.device), last]).to(unit.embeddings.device)
        joined = [torch.cat((layer.keys, layer.values), dim=1) for layer in cache.layers]
        return [
            Prefilled([layer[row : row + 1, :, : part.stop] for layer in joined], logits[row : row + 1])
            for row, part in enumerate(unit.parts)
        ]


def _visual(unit: PrefillUnit, counts: list[int]) -> dict[str, Any]:
    """The decoder's arguments for DeepStack."""
    if not len(unit.media_tokens):
        return {}
    is_media = torch.zeros(len(unit.embeddings), dtype=torch.bool, device=unit.media_tokens.device)
    is_media[unit.media_tokens] = True
    mask = pad_sequence(is_media.split(counts), batch_first=True)
    return {"visual_pos_masks": mask, "deepstack_visual_embeds": unit.deepstack}


def _cache_of(pasts: list[list[torch.Tensor]]) -> DynamicCache:
    """A cache with a row for each of ``pasts``, which have the same length."""
    cache = DynamicCache()
    for layer, states in enumerate(zip(*pasts, strict=True)):
        keys, values = torch.cat(states).chunk(2, dim=1)
        cache.update(keys, values, layer)
    return cache
