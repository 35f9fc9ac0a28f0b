"""Attention of the prompts in a prefill unit: each token to those of its own prompt up to itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch.nn import functional

from inference.engine.prefill_unit import Part


class PromptAttention(Protocol):
    """Attends layer after layer, and keeps the keys and values of each in ``Prefill.states``."""

    def attend(self, number: int, projected: torch.Tensor) -> torch.Tensor:
        """Layer ``number`` for all tokens of the unit, [tokens, heads x head size].

        ``projected`` are their queries, keys and values, as ``FusedLayer.project`` gives them.
        """
        ...

    def attend_last(self, projected: torch.Tensor) -> list[torch.Tensor]:
        """The last layer, [heads x head size] for the last token of each prompt that ends in this unit."""
        ...


class EachAlone:
    """One product for each prompt. Nothing is padded, so it has the least arithmetic: the fastest way on a CPU."""

    def __init__(self, parts: Sequence[Part], heads: tuple[int, int, int], *, layers: int, like: torch.Tensor) -> None:
        """``heads`` are those of ``FusedLayer``. Keys and values get the dtype and device of ``like``."""
        self._parts = parts
        self._queries, self._keys, self._size = heads
        for part in parts:
            self._make_room(part, layers, like)
        self._masks = [_mask(part, like) for part in parts]

    def attend(self, number: int, projected: torch.Tensor) -> torch.Tensor:
        group = self._queries // self._keys
        attended = []
        for part, own, mask in zip(self._parts, self._split(projected), self._masks, strict=True):
            kept = self._keep(part, number, own)
            # Key heads are the batch and the queries that share one are its heads, so that no key is repeated.
            keys, values = kept.unsqueeze(1).expand(-1, group, -1, -1).chunk(2)
            queries = own[:, : self._queries].transpose(0, 1).unflatten(0, (self._keys, group))
            seen = functional.scaled_dot_product_attention(
                queries, keys, values, attn_mask=mask, is_causal=mask is None and part.count > 1
            )
            attended.append(seen.permute(2, 0, 1, 3).flatten(1))
        return torch.cat(attended)

    def attend_last(self, projected: torch.Tensor) -> list[torch.Tensor]:
        attended = []
        for part, own in zip(self._parts, self._split(projected), strict=True):
            keys, values = self._keep(part, -1, own)[None].chunk(2, dim=1)
            if part.is_last:
                queries = own[-1, : self._queries].unflatten(0, (self._keys, -1))
                attended.append(functional.scaled_dot_product_attention(queries[None], keys, values).flatten())
        return attended

    def _split(self, projected: torch.Tensor) -> Sequence[torch.Tensor]:
        return projected.split([part.count for part in self._parts])

    def _make_room(self, part: Part, layers: int, like: torch.Tensor) -> None:
        """Allocate the keys and values of the whole prompt when it begins, and copy the cached prefix into them."""
        prefill = part.prefill
        tokens, done = len(prefill.prompt.ids), prefill.done
        if prefill.states and prefill.states[0].shape[2] == tokens:
            return
        cached = prefill.states
        prefill.states = [like.new_empty(1, 2 * self._keys, tokens, self._size) for _ in range(layers)]
        for layer, prefix in zip(prefill.states, cached, strict=False):
            layer[:, :, :done] = prefix

    def _keep(self, part: Part, number: int, projected: torch.Tensor) -> torch.Tensor:
        """Write keys and values of layer ``number``, and return all up to them, [2 x key heads, tokens, head size]."""
        kept = part.prefill.states[number][0, :, : part.stop]
        kept[:, part.start :] = projected[:, self._queries :].transpose(0, 1)
        return kept


class Padded:
    """One product for whole new prompts, padded to the longest: on a GPU the number of operations counts."""

    def __init__(self, parts: Sequence[Part], heads: tuple[int, int, int], *, layers: int, like: torch.Tensor) -> None:
        """As ``EachAlone``. No prompt has begun, and each of them ends in this unit."""
        self._queries, keys, size = heads
        self._group = self._queries // keys
        counts = [part.count for part in parts]
        self._rows, self._longest = len(parts), max(counts)
        rows = [range(row * self._longest, row * self._longest + count) for row, count in enumerate(counts)]
        #: [tokens], the place of each in the padded rows; and [prompts], those of their last tokens
        self._places = torch.tensor([place for row in rows for place in row], device=like.device)
        self._ends = torch.tensor([row[-1] for row in rows], device=like.device)
        self._kept = [like.new_empty(self._rows, 2 * keys, self._longest, size) for _ in range(layers)]
        self._parts = parts

    def attend(self, number: int, projected: torch.Tensor) -> torch.Tensor:
        return self._attend_in_rows(number, projected)[self._places]

    def attend_last(self, projected: torch.Tensor) -> list[torch.Tensor]:
        attended = list(self._attend_in_rows(-1, projected)[self._ends])
        for row, part in enumerate(self._parts):
            part.prefill.states = [layer[row : row + 1, :, : part.stop] for layer in self._kept]
        return attended

    def _attend_in_rows(self, number: int, projected: torch.Tensor) -> torch.Tensor:
        """[rows x longest, heads x head size]. Padding is on the right, where causal attention ignores it."""
        padded = projected.new_zeros(self._rows * self._longest, *projected.shape[1:])
        padded[self._places] = projected
        by_head = padded.view(self._rows, self._longest, *projected.shape[1:]).transpose(1, 2)
        kept = self._kept[number].copy_(by_head[:, self._queries :])
        # Repeated for the queries that share them: some of torch's kernels take only as many keys as queries.
        keys, values = (
            states.unsqueeze(2).expand(-1, -1, self._group, -1, -1).flatten(1, 2) for states in kept.chunk(2, dim=1)
        )
        seen = functional.scaled_dot_product_attention(by_head[:, : self._queries], keys, values, is_causal=True)
        return seen.transpose(1, 2).reshape(self._rows * self._longest, -1)


def _mask(part: Part, like: torch.Tensor) -> torch.Tensor | None:
    """[tokens, all tokens up to them], added to the scores. None: ``is_causal`` is enough, or one token sees all."""
    if not part.start or part.count == 1:
        return None
    return like.new_full((part.count, part.stop), -torch.inf).triu_(part.start + 1)
