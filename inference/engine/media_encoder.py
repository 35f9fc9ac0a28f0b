"""What the vision tower makes of images and video frames, kept for when the same one comes again."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from inference.engine.media_inputs import MediaPiece


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPiece:
    """A piece in the language model's terms, on the model's device."""

    #: [tokens, hidden size]
    embeddings: torch.Tensor
    #: [tokens, hidden size] each, added to the output of the first layers (DeepStack, arXiv:2406.04334)
    deepstack: tuple[torch.Tensor, ...]

    @property
    def nbytes(self) -> int:
        return self.embeddings.nbytes + sum(layer.nbytes for layer in self.deepstack)


class MediaEncoder:
    """Encodes pieces; the least recently used are forgotten above ``max_bytes``. Of the model thread."""

    def __init__(self, model: Any, *, max_bytes: int) -> None:
        self._model = model
        self._max_bytes = max_bytes
        self._known: collections.OrderedDict[bytes, EncodedPiece] = collections.OrderedDict()
        #: bytes held now
        self.nbytes = 0
        #: pieces that were not read again
        self.hits = 0

    def encode(self, pieces: Sequence[MediaPiece]) -> list[EncodedPiece]:
        """The pieces' embeddings; those that are not known go through the vision tower together, each one once."""
        new = {piece.digest: piece for piece in pieces if piece.digest not in self._known}
        encoded = self._encode(list(new.values())) if new else {}
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
        device = self._model.get_input_embeddings().weight.device
        # A frame of a video is an image to the vision tower.
        output = self._model.model.get_image_features(
            torch.cat([piece.pixels for piece in pieces]).to(device),
            torch.cat([piece.grid for piece in pieces]).to(device),
            return_dict=True,
        )
        layers = zip(*output.deepstack_features, strict=True)
        # Copies: what is kept of one piece must not keep the others that were encoded with it.
        return {
            piece.digest: EncodedPiece(embeddings.clone(), tuple(layer.clone() for layer in deepstack))
            for piece, embeddings, deepstack in zip(pieces, output.pooler_output, layers, strict=True)
        }

    def knows(self, piece: MediaPiece) -> bool:
        """Whether ``encode`` would cost nothing."""
        return piece.digest in self._known

    def clear(self) -> None:
        """Give the memory back."""
        self._known.clear()
        self.nbytes = 0

    def _keep(self, digest: bytes, encoded: EncodedPiece) -> None:
        self._known[digest] = encoded
        self.nbytes += encoded.nbytes
        while self.nbytes > self._max_bytes and self._known:
            self.nbytes -= self._known.popitem(last=False)[1].nbytes
