"""Keys and values of prompts that were read before, by block, so that the same beginning is not read again."""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Sequence

import numpy as np
import torch

#: tokens in a block; what is left over at the end of a prompt is read again
BLOCK_TOKENS = 32


def block_digests(keys: Sequence[int]) -> list[bytes]:
    """One digest for each whole block of ``keys``; it stands for the block and everything before it.

    A key is a token's id, or for a token of an image or a video a number made of the media's hash and the place in it:
    two pictures have the same placeholder tokens and must never be taken for each other. (As in vLLM's automatic
    prefix caching: a block's hash covers its parent's.)
    """
    digests = []
    parent = b""
    for start in range(0, len(keys) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        block = np.asarray(keys[start : start + BLOCK_TOKENS], dtype=np.int64).tobytes()
        parent = hashlib.blake2b(parent + block, digest_size=16).digest()
        digests.append(parent)
    return digests


class PrefixCache:
    """Blocks of keys and values by digest; the ones that were not used for longest make room. Of the model thread."""

    def __init__(self, *, max_tokens: int) -> None:
        self._max_blocks = max_tokens // BLOCK_TOKENS
        #: one tensor a layer, [blocks, 2 x heads, BLOCK_TOKENS, head size]; made at the first store
        self._pool: list[torch.Tensor] = []
        #: where each block lies, the least recently used first
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
        """The longest beginning that is held, [1, 2 x heads, tokens, head size] a layer; an empty list when none is."""
        known = []
        for digest in digests:
            if (place := self._places.get(digest)) is None:
                break
            known.append(place)
        # A block is of no use without those before it: these must go last.
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
        """Keep the blocks of ``digests`` that are not held yet.

        ``states`` are a layer's [2 x heads, tokens, head size] from the first token on, with at least the tokens of the
        digests.
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
        # Those at the end of a prompt go first when room is needed.
        for number, place in reversed(list(zip(missing, places, strict=True))):
            self._places[digests[number]] = place

    def clear(self) -> None:
        """Give the memory back."""
        self._pool = []
        self._places.clear()

    def _make_room(self, blocks: int) -> list[int]:
        unused = range(len(self._places), min(len(self._places) + blocks, self._max_blocks))
        freed = [self._places.popitem(last=False)[1] for _ in range(blocks - len(unused))]
        return [*unused, *freed]
