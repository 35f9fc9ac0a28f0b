"""Prefills prompts: media through the vision tower, then the tokens in chunks, several short prompts at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from inference.engine.agreement import prefills_alike
from inference.engine.fused_layers import FusedLayers
from inference.engine.fused_prefill import FusedPrefill
from inference.engine.layers_prefill import LayersPrefill
from inference.engine.loading import LoadedModel
from inference.engine.media_encoder import MediaEncoder
from inference.engine.media_inputs import MediaPiece
from inference.engine.prefill_unit import Prefill, Prefilled, PrefillPass, PrefillUnit
from inference.engine.prefix_cache import BLOCK_TOKENS, PrefixCache, block_digests
from inference.engine.prompts import Prompt


def default_chunk_tokens(device: torch.device) -> int:
    """Tokens of a unit of the prefill when no setting says how many.

    An H200 takes 1.6 times as long for 2,048 tokens of a 2B model as for 512. Other GPUs were not measured.
    """
    return 512 if device.type == "cpu" else 2048


def _best_pass(loaded: LoadedModel, fused: FusedLayers | None) -> PrefillPass:
    own = LayersPrefill(loaded.model)
    if fused is None:
        return own
    ours = FusedPrefill(fused, pads=loaded.device.type != "cpu")
    return ours if prefills_alike(ours, own, loaded) else own


class Prefiller:
    """Prefills in units of bounded size, so that decoding rows wait for one unit at most.

    A unit is at most ``chunk_tokens`` tokens through the language model, or the media of that many tokens through the
    vision tower; a single image may have more.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        fused: FusedLayers | None,
        *,
        prefixes: PrefixCache,
        encoder: MediaEncoder,
        chunk_tokens: int | None,
    ) -> None:
        """``fused`` are used if they give what the model's own layers give.

        None for ``chunk_tokens`` is ``default_chunk_tokens``.
        """
        self._embed: Any = loaded.model.get_input_embeddings()
        self._prefixes = prefixes
        self._encoder = encoder
        self._chunk_tokens = chunk_tokens or default_chunk_tokens(loaded.device)
        self._pass = _best_pass(loaded, fused)

    def begin(self, prompt: Prompt) -> Prefill:
        """Load the cached prefix, but leave at least one token to compute: its logits are needed."""
        whole_blocks = (len(prompt.ids) - 1) // BLOCK_TOKENS
        return Prefill(prompt, self._prefixes.load(block_digests(prompt.keys[: whole_blocks * BLOCK_TOKENS])))

    def work(self, queue: Sequence[Prefill]) -> list[Prefilled]:
        """Do one unit for the first prompt of ``queue``, and for those after it that fit into the same unit.

        Returns the finished prompts, which are the first entries of ``queue``.
        """
        if self._encode(queue):
            return []
        encoded = [queue[0]]
        for prefill in queue[1:]:
            if prefill.missing():
                break
            encoded.append(prefill)
        return self._pass.run(PrefillUnit.of(self._pass.choose(encoded, self._chunk_tokens), self._embed))

    def _encode(self, queue: Sequence[Prefill]) -> bool:
        """Encode what the first prompt needs, and what else fits into the unit; False when it needs nothing new."""
        taken: list[tuple[Prefill, int, MediaPiece]] = []
        digests: set[bytes] = set()
        tokens = 0
        for prefill in queue:
            for number, piece in prefill.missing():
                cost = 0 if self._encoder.knows(piece) or piece.digest in digests else len(piece.places)
                if not tokens or tokens + cost <= self._chunk_tokens:
                    taken.append((prefill, number, piece))
                    digests.add(piece.digest)
                    tokens += cost
            if not tokens:
                break
        for (prefill, number, _), encoded in zip(
            taken, self._encoder.encode([piece for _, _, piece in taken]), strict=True
        ):
            prefill.encoded[number] = encoded
        return tokens > 0
