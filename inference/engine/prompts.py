"""Turns a conversation into the model's inputs: chat template, tokens, media, and the position of every token."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from PIL import Image

from inference.engine.chat_template import ChatTemplate
from inference.engine.errors import InvalidPrompt, LoadError, PromptTooLong
from inference.engine.lanes import Lane
from inference.engine.loading import LoadedModel
from inference.engine.media_inputs import MediaInput, MediaPiece, MediaReader
from inference.engine.text_encoder import PIECE_CHARACTERS, TextEncoder
from inference.engine.thinking import Thinking
from inference.engine.types import GenerationRequest, Video


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A prompt, followed by the tokens of an earlier attempt, ready to be prefilled. Tensors are on the CPU."""

    #: [tokens]
    ids: torch.Tensor
    #: [3, tokens], the temporal, vertical and horizontal position of each token; [1, tokens] for a text-only model
    positions: torch.Tensor
    #: added to a token's index in the sequence to get its position; images take more tokens than positions
    rope_delta: int
    #: in the order of their positions
    pieces: tuple[MediaPiece, ...]
    #: the key of each token, see ``block_digests``
    keys: tuple[int, ...]
    #: number of tokens without those of the earlier attempt
    prompt_tokens: int
    #: whether the template has opened <think> for the answer
    opens_reasoning: bool
    #: whether the model may open it itself
    may_open_reasoning: bool

    @classmethod
    def of_tokens(cls, ids: torch.Tensor, *, axes: int) -> Self:
        """Text that is no conversation, to compare ways of prefilling; ``ids`` are [tokens]."""
        return cls(
            ids=ids,
            positions=torch.arange(len(ids)).expand(axes, -1),
            rope_delta=0,
            pieces=(),
            keys=tuple(ids.tolist()),
            prompt_tokens=len(ids),
            opens_reasoning=False,
            may_open_reasoning=False,
        )

    def extended(self, tokens: Sequence[int]) -> Prompt:
        """The prompt followed by generated tokens."""
        start = len(self.ids) + self.rope_delta
        places = torch.arange(start, start + len(tokens)).expand(len(self.positions), -1)
        return replace(
            self,
            ids=torch.cat([self.ids, torch.tensor(list(tokens), dtype=self.ids.dtype)]),
            positions=torch.cat([self.positions, places], dim=1),
            keys=(*self.keys, *tokens),
        )


class PromptMaker:
    """Makes prompts for one loaded model. Used by any number of threads."""

    def __init__(self, loaded: LoadedModel, *, max_context_tokens: int) -> None:
        """Raises LoadError when the model's chat template cannot be used."""
        self._loaded = loaded
        self._limit = max_context_tokens
        source = _template_source(loaded)
        self._template = ChatTemplate(loaded.tokenizer, loaded.vocabulary, source)
        self._thinking = Thinking(loaded.vocabulary, source)
        self._encoder = TextEncoder(loaded.tokenizer, loaded.vocabulary)
        self._reader = MediaReader(loaded) if loaded.has_media else None
        self._placeholders = self._reader.placeholders if self._reader else {}

    def make(self, request: GenerationRequest) -> Prompt:
        """Raises InvalidPrompt, InvalidSampling or PromptTooLong."""
        return next(step for step in self.steps(request) if isinstance(step, Prompt))

    def steps(self, request: GenerationRequest) -> Iterator[Lane | Prompt]:
        """Make a prompt in steps of bounded time: yield the lane of each next step, and finally the prompt.

        Raises InvalidPrompt, InvalidSampling or PromptTooLong.
        """
        try:
            yield from self._steps(request)
        except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RuntimeError) as error:
            raise InvalidPrompt(f"The conversation cannot be turned into a prompt: {error}") from error

    def spellings(self, words: Sequence[str]) -> list[tuple[int, ...]]:
        """The tokens of each word, alone and with a leading space, as most words occur in a text."""
        texts = dict.fromkeys(text for word in words for text in (word, f" {word.lstrip()}"))
        return [tuple(itertools.chain.from_iterable(self._encoder.pieces(text))) for text in texts]

    def _steps(self, request: GenerationRequest) -> Iterator[Lane | Prompt]:
        if self._reader is None and (request.images or request.videos):
            raise InvalidPrompt("This model reads text only: it takes no images or videos.")
        variables = self._thinking.variables(request.sampling)
        self._refuse_above(len(request.messages))
        conversation, media = _with_media(request, has_media=self._reader is not None)
        # From their sizes alone, so that a prompt that is too long is refused before its media are processed.
        media_tokens = sum(self._reader.tokens_of(item) - 1 for item in media) if self._reader else 0
        segments = self._template.render(conversation, request.tools, variables, request.ending)
        self._check_places(segments, media)
        ids: list[int] = []
        for step in self._encode(segments, media_tokens):
            if isinstance(step, Lane):
                yield step
            else:
                ids += step
        if len(ids) + media_tokens >= self._limit:
            raise PromptTooLong(len(ids) + media_tokens, self._limit)
        inputs: list[MediaInput] = []
        if self._reader is not None:
            for item in media:
                yield Lane.MEDIA
                inputs.append(self._reader.read(item))
        if inputs:
            yield Lane.TEXT
            ids = self._with_inputs(ids, inputs)
            # The timestamps of a video's frames are text, which was not counted above.
            if len(ids) >= self._limit:
                raise PromptTooLong(len(ids), self._limit)
        yield self._prompt(torch.tensor(ids), inputs, request)

    def _encode(self, segments: Sequence[str | int], media_tokens: int) -> Iterator[Lane | list[int]]:
        """The tokens of ``segments``, with a pause after every ``PIECE_CHARACTERS`` or so.

        Raises PromptTooLong as soon as that is certain; for a prompt that is far too long, before anything is encoded.
        """
        bounds = [1 if isinstance(segment, int) else self._encoder.at_least(segment) for segment in segments]
        # Encoded segments count exactly, the rest by their lower bound.
        known, rest, since_pause = media_tokens, sum(bounds), 0
        self._refuse_above(known + rest)
        for segment, bound in zip(segments, bounds, strict=True):
            rest -= bound
            for piece in [[segment]] if isinstance(segment, int) else self._encoder.pieces(segment):
                yield piece
                known += len(piece)
                since_pause += 1 if isinstance(segment, int) else min(len(segment), PIECE_CHARACTERS)
                if since_pause >= PIECE_CHARACTERS:
                    self._refuse_above(known + rest)
                    since_pause = 0
                    yield Lane.TEXT

    def _refuse_above(self, at_least: int) -> None:
        if at_least >= self._limit:
            raise PromptTooLong(at_least, self._limit, exact=False)

    def _check_places(self, segments: Sequence[str | int], media: Sequence[Image.Image | Video]) -> None:
        """Raises InvalidPrompt unless the template has written one placeholder for each image and video, in order."""
        kinds = {token: kind for kind, token in self._placeholders.items()}
        written = [kinds[segment] for segment in segments if isinstance(segment, int) and segment in kinds]
        if written != ["video" if isinstance(item, Video) else "image" for item in media]:
            raise InvalidPrompt("The model's chat template has no place for the images or videos of this conversation.")

    def _with_inputs(self, ids: Sequence[int], inputs: Sequence[MediaInput]) -> list[int]:
        """``ids`` with each placeholder replaced by all tokens of its image or video."""
        waiting, placeholders = iter(inputs), set(self._placeholders.values())
        expanded = (next(waiting).ids if token in placeholders else (token,) for token in ids)
        return list(itertools.chain.from_iterable(expanded))

    def _prompt(self, ids: torch.Tensor, inputs: Sequence[MediaInput], request: GenerationRequest) -> Prompt:
        positions, rope_delta = self._positions(ids, inputs)
        pieces = self._pieces(ids, inputs)
        prompt = Prompt(
            ids=ids,
            positions=positions,
            rope_delta=rope_delta,
            pieces=pieces,
            keys=tuple(_keys(ids, pieces)),
            prompt_tokens=len(ids),
            opens_reasoning=self._ends_with(self._loaded.vocabulary.think_start, ids.tolist()),
            # If the template has closed the reasoning, the model does not think.
            may_open_reasoning=self._thinking.is_possible
            and not self._ends_with(self._loaded.vocabulary.think_end, ids.tolist()),
        )
        return prompt.extended(request.resume_ids) if request.resume_ids else prompt

    def _positions(self, ids: torch.Tensor, inputs: Sequence[MediaInput]) -> tuple[torch.Tensor, int]:
        if not inputs:
            # In text, all axes of mrope have the same position: the index of the token.
            return torch.arange(len(ids)).expand(3 if self._loaded.has_media else 1, -1), 0
        kinds = torch.zeros_like(ids)
        grids: dict[str, torch.Tensor | None] = {}
        for number, (kind, placeholder) in enumerate(self._placeholders.items(), 1):
            kinds[ids == placeholder] = number
            of_kind = [item.grid for item in inputs if item.kind == kind]
            grids[f"{kind}_grid_thw"] = torch.cat(of_kind) if of_kind else None
        positions, deltas = self._loaded.model.model.get_rope_index(ids[None], mm_token_type_ids=kinds[None], **grids)
        return positions[:, 0], int(deltas[0, 0])

    def _pieces(self, ids: torch.Tensor, inputs: Sequence[MediaInput]) -> tuple[MediaPiece, ...]:
        """The pieces of all media, in the order of their positions."""
        if not inputs:
            return ()
        places = {
            kind: iter((ids == placeholder).nonzero().flatten().tolist())
            for kind, placeholder in self._placeholders.items()
        }
        pieces: list[MediaPiece] = []
        for item in inputs:
            tokens = len(item.patches) * item.piece_tokens
            pieces += item.pieces(list(itertools.islice(places[item.kind], tokens)))
        return tuple(pieces)

    def _ends_with(self, tag: int | None, ids: list[int]) -> bool:
        """Whether the last ``tag`` of the prompt is followed by nothing but white space."""
        if tag is None or tag not in ids:
            return False
        after_tag = ids[len(ids) - ids[::-1].index(tag) :]
        return all(not self._loaded.vocabulary.token_bytes[i].strip() for i in after_tag)


def _keys(ids: torch.Tensor, pieces: Sequence[MediaPiece]) -> list[int]:
    keys = ids.tolist()
    for piece in pieces:
        # Far above all token ids, and different for each piece.
        first = int.from_bytes(piece.digest[:7], "big") + 2**56
        keys[piece.places.start : piece.places.stop] = range(first, first + len(piece.places))
    return keys


def _template_source(loaded: LoadedModel) -> str:
    source = getattr(loaded.processor, "chat_template", None) or loaded.tokenizer.chat_template
    if isinstance(source, dict):
        source = source.get("default")
    if not source:
        raise LoadError("The model has no chat template: it was not made for conversations.")
    return str(source)


def _with_media(
    request: GenerationRequest, *, has_media: bool
) -> tuple[list[dict[str, Any]], list[Image.Image | Video]]:
    """The messages as the template takes them, and the images and videos in the order of their parts.

    Parts are rebuilt with known members only. Raises InvalidPrompt.
    """
    images, videos = list(request.images), list(request.videos)
    media: list[Image.Image | Video] = []
    conversation = []
    for message in request.messages:
        content = message.get("content") or ""
        parts: list[dict[str, str]] = []
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            kind = part.get("type")
            if kind == "text":
                parts.append({"type": "text", "text": str(part.get("text", ""))})
            elif kind == "image" and images:
                # Some templates check the type, some the member.
                parts.append({"type": "image", "image": ""})
                media.append(images.pop(0))
            elif kind == "video" and videos:
                parts.append({"type": "video", "video": ""})
                media.append(videos.pop(0))
            else:
                raise InvalidPrompt(f"The conversation has a part of type {kind!r} and nothing to put there.")
        # Templates of text-only models take a message's content as one text.
        text = "".join(part["text"] for part in parts) if not has_media else None
        conversation.append({**message, "content": parts if text is None else text})
    if images or videos:
        raise InvalidPrompt("There are more images or videos than places for them in the conversation.")
    return conversation, media
