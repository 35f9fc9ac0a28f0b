"""Prefills prompts: media through the vision tower, then the tokens in chunks, several short prompts at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from inference.engine.loading import LoadedModel
from inference.engine.media_encoder import EncodedPiece, MediaEncoder
from inference.engine.media_inputs import MediaPiece
from inference.engine.prefix_cache import BLOCK_TOKENS, PrefixCache, block_digests
from inference.engine.prompts import Prompt


class Prefill:
    """A prompt that is being prefilled."""

    def __init__(self, prompt: Prompt, past: list[torch.Tensor]) -> None:
        self.prompt = prompt
        #: the cached prefix, [1, 2 x heads, tokens, head size] per layer; empty when there was none
        self.past = past
        #: tokens whose keys and values are computed
        self.done = past[0].shape[2] if past else 0
        self.reused_tokens = self.done
        #: keys and values of a prompt that takes more than one chunk
        self.cache: DynamicCache | None = None
        #: encoded pieces by their number; pieces before ``done`` are not needed
        self.encoded: dict[int, EncodedPiece] = {}

    @property
    def remaining(self) -> int:
        return len(self.prompt.ids) - self.done


class Prefiller:
    """Prefills in units of bounded size, so that decoding rows wait for one unit at most.

    A unit is at most ``chunk_tokens`` tokens through the language model, or the media of that many tokens through the
    vision tower; a single image may have more.
    """

    def __init__(self, loaded: LoadedModel, *, prefixes: PrefixCache, encoder: MediaEncoder, chunk_tokens: int) -> None:
        self._model: Any = loaded.model
        self._decoder: Any = loaded.model.get_decoder()
        self._head: Any = loaded.model.get_output_embeddings()
        self._device = loaded.device
        self._prefixes = prefixes
        self._encoder = encoder
        self._chunk_tokens = chunk_tokens

    def begin(self, prompt: Prompt) -> Prefill:
        """Load the cached prefix, but leave at least one token to compute: its logits are needed."""
        whole_blocks = (len(prompt.ids) - 1) // BLOCK_TOKENS
        return Prefill(prompt, self._prefixes.load(block_digests(prompt.keys[: whole_blocks * BLOCK_TOKENS])))

    def work(self, queue: Sequence[Prefill]) -> list[tuple[list[torch.Tensor], torch.Tensor]]:
        """Do one unit for the first prompt of ``queue``, and for those after it that fit into the same unit.

        Returns the finished prompts, which are the first entries of ``queue``: the layers' states, [1, 2 x heads,
        tokens, head size], and the logits of the next token, [1, vocabulary].
        """
        if self._encode(queue):
            return []
        head = queue[0]
        length = min(head.remaining, self._chunk_tokens)
        group = [head]
        if length == head.remaining and head.cache is None:
            group += itertools.takewhile(lambda other: self._fits_beside(head, other), queue[1:])
            # All are padded to the longest, so the cost is rows times length.
            while len(group) > 1 and max(p.remaining for p in group) * len(group) > self._chunk_tokens:
                group.pop()
            length = max(p.remaining for p in group)
        return self._forward(group, length)

    def _fits_beside(self, head: Prefill, other: Prefill) -> bool:
        return other.cache is None and other.done == head.done and not self._missing(other)

    def _missing(self, prefill: Prefill) -> list[tuple[int, MediaPiece]]:
        """Pieces that are at least partly after ``done``, and are not encoded."""
        return [
            (number, piece)
            for number, piece in enumerate(prefill.prompt.pieces)
            if piece.places.stop > prefill.done and number not in prefill.encoded
        ]

    def _encode(self, queue: Sequence[Prefill]) -> bool:
        """Encode what the first prompt needs, and what else fits into the unit; False when it needs nothing new."""
        taken = []
        tokens = 0
        for prefill in queue:
            for number, piece in self._missing(prefill):
                cost = 0 if self._encoder.knows(piece) else len(piece.places)
                if not tokens or tokens + cost <= self._chunk_tokens:
                    taken.append((prefill, number, piece))
                    tokens += cost
            if not tokens:
                break
        for (prefill, number, _), encoded in zip(
            taken, self._encoder.encode([piece for _, _, piece in taken]), strict=True
        ):
            prefill.encoded[number] = encoded
        return tokens > 0

    def _forward(self, group: list[Prefill], length: int) -> list[tuple[list[torch.Tensor], torch.Tensor]]:
        start = group[0].done
        ids = torch.zeros(len(group), length, dtype=torch.long)
        # Shorter prompts are padded on the right; causal attention ignores the padding.
        positions = torch.zeros(group[0].prompt.positions.shape[0], len(group), length, dtype=torch.long)
        for row, prefill in enumerate(group):
            part = slice(start, min(start + length, len(prefill.prompt.ids)))
            count = part.stop - start
            ids[row, :count] = prefill.prompt.ids[part]
            positions[:, row, :count] = prefill.prompt.positions[:, part]
        embeddings = self._model.get_input_embeddings()(ids.to(self._device))
        visual = self._place_media(group, start, length, embeddings)
        cache = group[0].cache or _cache_of([prefill.past for prefill in group])
        if len(positions) == 1:
            positions = positions[0]
        hidden = self._decoder(
            inputs_embeds=embeddings,
            position_ids=positions.to(self._device),
            past_key_values=cache,
            use_cache=True,
            **visual,
        ).last_hidden_state
        if group[0].remaining > length:
            group[0].cache, group[0].past = cache, []
            group[0].done += length
            return []
        last = torch.tensor([prefill.remaining - 1 for prefill in group], device=hidden.device)
        logits = self._head(hidden[torch.arange(len(group), device=hidden.device), last]).to(self._device)
        # A model split over devices outputs on a different device than its input.
        joined = [torch.cat((layer.keys, layer.values), dim=1) for layer in cache.layers]
        return [
            ([layer[row : row + 1, :, : len(prefill.prompt.ids)] for layer in joined], logits[row : row + 1])
            for row, prefill in enumerate(group)
        ]

    def _place_media(
        self, group: list[Prefill], start: int, length: int, embeddings: torch.Tensor
    ) -> dict[str, torch.Tensor | list[torch.Tensor]]:
        """Put the encoded media into ``embeddings``, [rows, tokens, hidden size], and return the rest.

        The rest are the decoder's arguments for DeepStack: the features, and the mask of their positions.
        """
        mask = torch.zeros(embeddings.shape[:2], dtype=torch.bool)
        parts: list[tuple[EncodedPiece, slice]] = []
        for row, prefill in enumerate(group):
            for number, encoded in sorted(prefill.encoded.items()):
                places = prefill.prompt.pieces[number].places
                first, stop = max(places.start, start), min(places.stop, start + length)
                if first < stop:
                    inside = slice(first - places.start, stop - places.start)
                    embeddings[row, first - start : stop - start] = encoded.embeddings[inside]
                    mask[row, first - start : stop - start] = True
                    parts.append((encoded, inside))
        if not parts:
            return {}
        layers = range(len(parts[0][0].deepstack))
        deepstack = [torch.cat([encoded.deepstack[layer][inside] for encoded, inside in parts]) for layer in layers]
        return {"visual_pos_masks": mask.to(self._device), "deepstack_visual_embeds": deepstack}


def _cache_of(pasts: list[list[torch.Tensor]]) -> DynamicCache:
    """A cache with a row for each of ``pasts``, which have the same length."""
    cache = DynamicCache()
    for layer, states in enumerate(zip(*pasts, strict=True)):
        keys, values = torch.cat(states).chunk(2, dim=1)
        cache.update(keys, values, layer)
    return cache
