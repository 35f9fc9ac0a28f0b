"""What one forward pass of the prefill takes: tokens of one or several prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers.cache_utils import DynamicCache

from inference.engine.media_encoder import EncodedPiece
from inference.engine.media_inputs import MediaPiece
from inference.engine.prompts import Prompt


class Prefill:
    """A prompt that is being prefilled."""

    def __init__(self, prompt: Prompt, states: list[torch.Tensor]) -> None:
        """``states`` are the cached prefix, empty when there is none."""
        self.prompt = prompt
        #: keys and values of the first ``done`` tokens, [1, 2 x key heads, at least ``done``, head size] per layer
        self.states = states
        #: tokens whose keys and values are computed
        self.done = states[0].shape[2] if states else 0
        self.reused_tokens = self.done
        #: in place of ``states``, when the model's own layers have begun with the prompt
        self.cache: DynamicCache | None = None
        #: encoded pieces by their number; pieces before ``done`` are not needed
        self.encoded: dict[int, EncodedPiece] = {}

    @property
    def remaining(self) -> int:
        return len(self.prompt.ids) - self.done

    def missing(self) -> list[tuple[int, MediaPiece]]:
        """Pieces that are at least partly after ``done``, and are not encoded, by their number."""
        return [
            (number, piece)
            for number, piece in enumerate(self.prompt.pieces)
            if piece.places.stop > self.done and number not in self.encoded
        ]


@dataclass(frozen=True, slots=True, eq=False)
class Prefilled:
    """A prompt whose last token has been prefilled."""

    #: [1, 2 x key heads, tokens, head size] per layer
    states: list[torch.Tensor]
    #: of the next token, [1, vocabulary]
    logits: torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Tokens ``start`` to ``stop`` of a prompt."""

    prefill: Prefill
    start: int
    stop: int

    @classmethod
    def next_of(cls, prefill: Prefill, tokens: int) -> Part:
        """The next tokens, as many as are left, but at most ``tokens``."""
        return cls(prefill, prefill.done, prefill.done + min(prefill.remaining, tokens))

    @property
    def count(self) -> int:
        return self.stop - self.start

    @property
    def is_last(self) -> bool:
        return self.stop == len(self.prefill.prompt.ids)


@dataclass(frozen=True, slots=True, eq=False)
class PrefillUnit:
    """Parts of different prompts, one after the other."""

    parts: list[Part]
    #: [tokens, hidden size], those of images and videos in their places
    embeddings: torch.Tensor
    #: [axes, tokens], rotary
    positions: torch.Tensor
    #: [media tokens], the indices of the tokens that belong to images and videos
    media_tokens: torch.Tensor
    #: [media tokens, hidden size] each, added to the output of the first layers (DeepStack)
    deepstack: list[torch.Tensor]

    @classmethod
    def of(cls, parts: Sequence[Part], embed: Any) -> PrefillUnit:
        """Their media must be encoded. ``embed`` is the model's embedding."""
        ids = torch.cat([part.prefill.prompt.ids[part.start : part.stop] for part in parts])
        positions = torch.cat([part.prefill.prompt.positions[:, part.start : part.stop] for part in parts], dim=1)
        device = embed.weight.device
        embeddings = embed(ids.to(device))
        places: list[int] = []
        layers: list[tuple[torch.Tensor, ...]] = []
        offset = 0
        for part in parts:
            for number, encoded in sorted(part.prefill.encoded.items()):
                tokens = part.prefill.prompt.pieces[number].places
                first, stop = max(tokens.start, part.start), min(tokens.stop, part.stop)
                if first < stop:
                    inside = slice(first - tokens.start, stop - tokens.start)
                    moved = range(first - part.start + offset, stop - part.start + offset)
                    embeddings[moved.start : moved.stop] = encoded.embeddings[inside]
                    places += moved
                    layers.append(tuple(layer[inside] for layer in encoded.deepstack))
            offset += part.count
        return cls(
            parts=list(parts),
            embeddings=embeddings,
            positions=positions.to(device),
            media_tokens=torch.tensor(places, dtype=torch.long, device=device),
            deepstack=[torch.cat(layer) for layer in zip(*layers, strict=True)],
        )


class PrefillPass(Protocol):
    """A way through the model's layers."""

    def choose(self, queue: Sequence[Prefill], tokens: int) -> list[Part]:
        """Parts of the first prompts of ``queue`` that can go through the layers together, ``tokens`` at most."""
        ...

    def run(self, unit: PrefillUnit) -> list[Prefilled]:
        """Prefill the unit, and return the complete prompts in order. One that stays incomplete is alone in a unit."""
        ...
