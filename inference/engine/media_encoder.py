"""What the vision tower makes of images and video frames, kept for when the same one comes again."""

from __future__ import annotations

import collections
from dataclasses import dataclass
from typing import Any

import torch

from inference.engine.prompts import MediaPiece


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
    """Encodes pieces one by one; the least recently used are forgotten above ``max_bytes``. Of the model thread."""

    def __init__(self, model: Any, *, max_bytes: int) -> None:
        self._model = model
        self._max_bytes = max_bytes
        self._known: collections.OrderedDict[bytes, EncodedPiece] = collections.OrderedDict()
        #: bytes held now
        self.nbytes = 0
        #: pieces that were not read again
        self.hits = 0

    def encode(self, piece: MediaPiece) -> EncodedPiece:
        """The piece's embeddings; the vision tower is asked only for one that is not known."""
        if (known := self._known.get(piece.digest)) is not None:
            self._known.move_to_end(piece.digest)
            self.hits += 1
            return known
        device = self._model.get_input_embeddings().weight.device
        inner = self._model.model
        encode = inner.get_image_features if piece.kind == "image" else inner.get_video_features
        output = encode(piece.pixels.to(device), piece.grid.to(device), return_dict=True)
        encoded = EncodedPiece(output.pooler_output[0], tuple(layer[0] for layer in output.deepstack_features))
        self._keep(piece.digest, encoded)
        return encoded

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
