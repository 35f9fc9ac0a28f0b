"""Encodes images and video frames with the vision tower, and caches the results."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from inference.engine.media_inputs import MediaPiece
from inference.engine.patch_embedding import PatchEmbedding


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPiece:
    """A piece as the language model gets it, on the model's device."""

    #: [tokens, hidden size]
    embeddings: torch.Tensor
    #: [tokens, hidden size] each, added to the output of the first layers (DeepStack, arXiv:2406.04334)
    deepstack: tuple[torch.Tensor, ...]

    @property
    def nbytes(self) -> int:
        return self.embeddings.nbytes + sum(layer.nbytes for layer in self.deepstack)


class MediaEncoder:
    """Encodes pieces; above ``max_bytes`` the least recently used are evicted. Used by the model thread only."""

    def __init__(self, model: Any, *, max_bytes: int) -> None:
        self._model = model
        self._max_bytes = max_bytes
        self._known: collections.OrderedDict[bytes, EncodedPiece] = collections.OrderedDict()
        #: bytes held now
        self.nbytes = 0
        #: pieces whose encoding was cached
        self.hits = 0

    def encode(self, pieces: Sequence[MediaPiece]) -> list[EncodedPiece]:
        """The pieces' embeddings; those that are not cached go through the vision tower together, each one once."""
        new = {piece.digest: piece for piece in pieces if piece.digest not in self._known}
        encoded: dict[bytes, EncodedPiece] = {}
        # Separately, so that what an image becomes does not depend on a video beside it.
        for kind in ("image", "video"):
            if of_kind := [piece for piece in new.values() if piece.kind == kind]:
                encoded |= self._encode(of_kind)
        found = []
        for piece in pieces:
            if piece.digest in encoded:
                found.append(encoded[piece.digest])
            else:
                self._known.move_to_end(piece.digest)
                self.hits += 1
                found.append(self._known[piece.digest])
        for digest, one in encoded.items():
            self._keep(digest, one)
        return found

    def _encode(self, pieces: list[MediaPiece]) -> dict[bytes, EncodedPiece]:
        """Pieces of one kind."""
        device = self._model.get_input_embeddings().weight.device
        pixels = torch.cat([piece.pixels for piece in pieces])
        embedding = self._model.model.visual.patch_embed
        if isinstance(embedding, PatchEmbedding) and pieces[0].kind == "image":
            pixels = embedding.one_frame(pixels)
        # The vision tower treats a frame of a video as an image.
        output = self._model.model.get_image_features(
            pixels.to(device),
            torch.cat([piece.grid for piece in pieces]).to(device),
            return_dict=True,
        )
        layers = zip(*output.deepstack_features, strict=True)
        # Copies, because a view of one piece would keep the others that were encoded with it in memory.
        return {
            piece.digest: EncodedPiece(embeddings.clone(), tuple(layer.clone() for layer in deepstack))
            for piece, embeddings, deepstack in zip(pieces, output.pooler_output, layers, strict=True)
        }

    def knows(self, piece: MediaPiece) -> bool:
        """Whether the piece is cached, so that ``encode`` need not compute it."""
        return piece.digest in self._known

    def clear(self) -> None:
        """Free the memory."""
        self._known.clear()
        self.nbytes = 0

    def _keep(self, digest: bytes, encoded: EncodedPiece) -> None:
        self._known[digest] = encoded
        self.nbytes += encoded.nbytes
        while self.nbytes > self._max_bytes and self._known:
            self.nbytes -= self._known.popitem(last=False)[1].nbytes
