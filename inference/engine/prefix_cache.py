"""Prefix cache: keys and values of earlier prompts, by block, so that a shared prefix is not computed again."""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Sequence

import numpy as np
import torch

#: tokens in a block; an incomplete block at the end of a prompt is not cached
BLOCK_TOKENS = 32


def block_digests(keys: Sequence[int]) -> list[bytes]:
    """One digest for each whole block of ``keys``; it identifies the block and everything before it.

    A key is a token's id or, for a token of an image or a video, a number made of the hash of the media and the
    position in it: two pictures have the same placeholder tokens and must never be confused. (As in vLLM's automatic
    prefix caching, a block's hash covers its parent's.)
    """
    digests = []
    parent = b""
    for start in range(0, len(keys) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        block = np.asarray(keys[start : start + BLOCK_TOKENS], dtype=np.int64).tobytes()
        parent = hashlib.blake2b(parent + block, digest_size=16).digest()
        digests.append(parent)
    return digests


class PrefixCache:
    """Blocks of keys and values by digest, evicted least recently used first. Used by the model thread only."""

    def __init__(self, *, max_tokens: int) -> None:
        self._max_blocks = max_tokens // BLOCK_TOKENS
        #: one tensor per layer, [blocks, 2 x heads, BLOCK_TOKENS, head size]; allocated at the first store
        self._pool: list[torch.Tensor] = []
        #: digest → index in the pool, the least recently used first
        self._places: collections.OrderedDict[bytes, int] = collections.OrderedDict()

    @property
    def tokens(self) -> int:
        """Tokens held now."""
        return len(self._places) * BLOCK_TOKENS

    @property
    def nbytes(self) -> int:
        """Bytes of what is held now."""
        return len(self._places) * sum(layer[0].nbytes for layer in self._pool)

    def load(self, digests: Sequence[bytes]) -> list[torch.Tensor]:
        """The longest cached prefix, [1, 2 x heads, tokens, head size] per layer; an empty list when there is none."""
        known = []
        for digest in digests:
            if (place := self._places.get(digest)) is None:
                break
            known.append(place)
        # A block is useless without its predecessors, so these must be evicted last.
        for digest in reversed(digests[: len(known)]):
            self._places.move_to_end(digest)
        if not known:
            return []
        states = []
        for layer in self._pool:
            blocks = layer[torch.tensor(known, device=layer.device)]
            states.append(blocks.transpose(0, 1).flatten(1, 2).unsqueeze(0))
        return states

    def store(self, digests: Sequence[bytes], states: Sequence[torch.Tensor]) -> None:
        """Store the blocks of ``digests`` that are not cached yet.

        ``states`` are [2 x heads, tokens, head size] per layer, from the first token on, with at least the tokens of
        the digests.
        """
        digests = digests[: self._max_blocks]
        missing = [number for number, digest in enumerate(digests) if digest not in self._places]
        for digest in reversed(digests):
            if digest in self._places:
                self._places.move_to_end(digest)
        if not missing:
            return
        if not self._pool:
            self._pool = [
                layer.new_empty(self._max_blocks, layer.shape[0], BLOCK_TOKENS, layer.shape[2]) for layer in states
            ]
        places = self._make_room(len(missing))
        end = (missing[-1] + 1) * BLOCK_TOKENS
        for layer, new in zip(self._pool, states, strict=True):
            blocks = new[:, :end].unflatten(1, (-1, BLOCK_TOKENS)).transpose(0, 1)
            chosen = blocks if len(missing) == len(blocks) else blocks[torch.tensor(missing, device=new.device)]
            layer[torch.tensor(places, device=layer.device)] = chosen
        # Blocks at the end of a prompt are evicted first.
        for number, place in reversed(list(zip(missing, places, strict=True))):
            self._places[digests[number]] = place

    def clear(self) -> None:
        """Free the memory."""
        self._pool = []
        self._places.clear()

    def _make_room(self, blocks: int) -> list[int]:
        unused = range(len(self._places), min(len(self._places) + blocks, self._max_blocks))
        freed = [self._places.popitem(last=False)[1] for _ in range(blocks - len(unused))]
        return [*unused, *freed]
