"""Makes the model's inputs of a conversation: chat template, processor, and the position of every token."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from inference.engine.errors import InvalidPrompt, PromptTooLong
from inference.engine.loading import LoadedModel
from inference.engine.types import GenerationRequest, Video

#: kinds of media: the processor's name of their pixels, and the configuration's of the token that stands for a piece
_KINDS: tuple[tuple[Literal["image", "video"], str, str], ...] = (
    ("image", "pixel_values", "image_token_id"),
    ("video", "pixel_values_videos", "video_token_id"),
)


@dataclass(frozen=True, slots=True, eq=False)
class MediaPiece:
    """What the vision tower reads at once: an image, or two frames of a video. Tensors are on the CPU."""

    kind: Literal["image", "video"]
    #: tells the piece from every other one
    digest: bytes
    #: [patches, values of a patch]
    pixels: torch.Tensor
    #: [1, 3], frames (always 1), rows and columns of patches
    grid: torch.Tensor
    #: the tokens that it takes in the prompt
    places: range


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A prompt, followed by the tokens of an earlier attempt, ready to be prefilled. Tensors are on the CPU."""

    #: [tokens]
    ids: torch.Tensor
    #: [3, tokens], the temporal, vertical and horizontal position of each token; of a text-only model [1, tokens]
    positions: torch.Tensor
    #: what is added to a token's place in the sequence to get its position; images take more places than positions
    rope_delta: int
    #: in the order of their places
    pieces: tuple[MediaPiece, ...]
    #: what each token stands for, as ``block_digests`` wants it
    keys: tuple[int, ...]
    #: without the earlier attempt's tokens
    prompt_tokens: int
    #: whether the template has opened <think> for the answer
    opens_reasoning: bool

    def extended(self, tokens: Sequence[int]) -> Prompt:
        """The prompt with generated tokens behind it."""
        start = len(self.ids) + self.rope_delta
        places = torch.arange(start, start + len(tokens)).expand(len(self.positions), -1)
        return replace(
            self,
            ids=torch.cat([self.ids, torch.tensor(list(tokens), dtype=self.ids.dtype)]),
            positions=torch.cat([self.positions, places], dim=1),
            keys=(*self.keys, *tokens),
        )


class PromptMaker:
    """Makes prompts for one loaded model. Used by any thread; one conversation is processed at a time."""

    def __init__(self, loaded: LoadedModel, *, max_context_tokens: int) -> None:
        self._loaded = loaded
        self._limit = max_context_tokens
        # The tokenizer keeps padding and special-token settings in itself and refuses to be used by two threads.
        self._lock = threading.Lock()

    def make(self, request: GenerationRequest) -> Prompt:
        """Raises InvalidPrompt or PromptTooLong."""
        conversation = _with_media(request)
        try:
            with self._lock:
                inputs = self._process(conversation, request)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError) as error:
            raise InvalidPrompt(f"The conversation cannot be turned into a prompt: {error}") from error
        ids = inputs["input_ids"]
        prompt_tokens = ids.shape[1]
        if prompt_tokens >= self._limit:
            raise PromptTooLong(prompt_tokens, self._limit)
        positions, rope_delta = self._positions(inputs)
        pieces = self._pieces(ids[0], inputs)
        prompt = Prompt(
            ids=ids[0],
            positions=positions,
            rope_delta=rope_delta,
            pieces=pieces,
            keys=tuple(_keys(ids[0], pieces)),
            prompt_tokens=prompt_tokens,
            opens_reasoning=self._opens_reasoning(ids[0].tolist()),
        )
        return prompt.extended(request.resume_ids) if request.resume_ids else prompt

    def _positions(self, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, int]:
        ids = inputs["input_ids"]
        if "mm_token_type_ids" not in inputs:
            # Of a text alone, all axes of mrope have the same position: its place.
            return torch.arange(ids.shape[1]).expand(3 if self._loaded.has_media else 1, -1), 0
        positions, deltas = self._loaded.model.model.get_rope_index(
            ids,
            mm_token_type_ids=inputs["mm_token_type_ids"],
            image_grid_thw=inputs.get("image_grid_thw"),
            video_grid_thw=inputs.get("video_grid_thw"),
        )
        return positions[:, 0], int(deltas[0, 0])

    def _pieces(self, ids: torch.Tensor, inputs: dict[str, torch.Tensor]) -> tuple[MediaPiece, ...]:
        """The media of the prompt, cut as small as the vision tower allows: it never looks from frame to frame."""
        pieces: list[MediaPiece] = []
        for kind, pixels_name, place_token in _KINDS:
            pixels, grids = inputs.get(pixels_name), inputs.get(f"{kind}_grid_thw")
            if pixels is None or grids is None:
                continue
            merged = self._loaded.model.config.vision_config.spatial_merge_size**2
            places = (ids == getattr(self._loaded.model.config, place_token)).nonzero().flatten().tolist()
            for frames, rows, columns in grids.tolist():
                for patches in pixels[: frames * rows * columns].split(rows * columns):
                    count, (first, *_) = rows * columns // merged, places
                    digest = hashlib.blake2b(f"{kind}:{rows}x{columns}:".encode(), digest_size=16)
                    digest.update(patches.numpy())
                    pieces.append(
                        MediaPiece(
                            kind=kind,
                            digest=digest.digest(),
                            pixels=patches,
                            grid=torch.tensor([[1, rows, columns]]),
                            places=range(first, first + count),
                        )
                    )
                    places = places[count:]
                pixels = pixels[frames * rows * columns :]
        return tuple(sorted(pieces, key=lambda piece: piece.places.start))

    def _process(self, conversation: list[dict[str, Any]], request: GenerationRequest) -> dict[str, torch.Tensor]:
        if not (request.images or request.videos):
            return self._process_text(conversation)
        if not self._loaded.has_media:
            raise InvalidPrompt("This model reads text only: it takes no images or videos.")
        processor_kwargs: dict[str, Any] = {}
        if request.videos:
            processor_kwargs["videos_kwargs"] = {
                "do_sample_frames": False,
                "video_metadata": [_metadata(video) for video in request.videos],
            }
        features = self._loaded.processor.apply_chat_template(
            conversation,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            # What a user writes stays text: an "<|im_end|>" ends no turn and an "<|image_pad|>" stands for no image.
            sanitize_control_tokens=True,
            processor_kwargs=processor_kwargs,
        )
        return dict(features)

    def _process_text(self, conversation: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Without the processor, which takes twice as long to find that there is nothing to look at."""
        processor = self._loaded.processor
        if not self._loaded.has_media:
            # The template of a model without eyes wants a message's content as one text.
            conversation = [
                {**message, "content": "".join(part["text"] for part in message["content"])} for message in conversation
            ]
        features = self._loaded.tokenizer.apply_chat_template(
            conversation,
            chat_template=processor.chat_template if processor is not None else None,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            sanitize_control_tokens=True,
        )
        return {"input_ids": features["input_ids"]}

    def _opens_reasoning(self, ids: list[int]) -> bool:
        start = self._loaded.vocabulary.think_start
        if start is None or start not in ids:
            return False
        after_tag = ids[len(ids) - ids[::-1].index(start) :]
        return all(not self._loaded.vocabulary.token_bytes[i].strip() for i in after_tag)


def _keys(ids: torch.Tensor, pieces: Sequence[MediaPiece]) -> list[int]:
    keys = ids.tolist()
    for piece in pieces:
        # Far from every token id, and different from piece to piece.
        first = int.from_bytes(piece.digest[:7], "big") + 2**56
        keys[piece.places.start : piece.places.stop] = range(first, first + len(piece.places))
    return keys


def _with_media(request: GenerationRequest) -> list[dict[str, Any]]:
    """The messages with each image and video in its place.

    Parts are made anew with known members only: the processor would open a "path" or fetch a "url" that it finds.
    """
    images, videos = list(request.images), list(request.videos)
    conversation = []
    for message in request.messages:
        content = message.get("content") or ""
        parts: list[dict[str, Any]] = []
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            kind = part.get("type")
            if kind == "text":
                parts.append({"type": "text", "text": str(part.get("text", ""))})
            elif kind == "image" and images:
                parts.append({"type": "image", "image": images.pop(0).convert("RGB")})
            elif kind == "video" and videos:
                parts.append({"type": "video", "video": _frames(videos.pop(0))})
            else:
                raise InvalidPrompt(f"The conversation has a part of type {kind!r} and nothing to put there.")
        conversation.append({**message, "content": parts})
    if images or videos:
        raise InvalidPrompt("There are more images or videos than places for them in the conversation.")
    return conversation


def _frames(video: Video) -> np.ndarray:
    # The processor merges frames in pairs; it completes an odd number by itself, but not a single frame.
    return video.frames if len(video.frames) > 1 else np.repeat(video.frames, 2, axis=0)


def _metadata(video: Video) -> dict[str, Any]:
    # The processor knows frame numbers and a rate. At a thousand frames a second the number is the time in
    # milliseconds, which keeps the true times of frames that are not evenly spread.
    milliseconds = [round(seconds * 1000) for seconds in video.timestamps_seconds]
    return {
        "total_num_frames": len(video.frames),
        "fps": 1000.0,
        "frames_indices": milliseconds,
        "height": video.frames.shape[1],
        "width": video.frames.shape[2],
    }
