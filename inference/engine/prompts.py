"""Makes the model's inputs of a conversation: chat template, processor, and the position of every token."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from inference.engine.errors import InvalidPrompt, PromptTooLong
from inference.engine.loading import LoadedModel
from inference.engine.types import GenerationRequest, Video


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A prompt, followed by the tokens of an earlier attempt, ready to be prefilled. Tensors are on the CPU."""

    #: [1, tokens]
    input_ids: torch.Tensor
    #: [3, 1, tokens], the temporal, vertical and horizontal position of each token
    position_ids: torch.Tensor
    #: what is added to a token's place in the sequence to get its position; images take more places than positions
    rope_delta: int
    #: pixel values and grids, as the model takes them
    media: dict[str, torch.Tensor]
    #: without the earlier attempt's tokens
    prompt_tokens: int
    #: whether the template has opened <think> for the answer
    opens_reasoning: bool


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
        ids = inputs.pop("input_ids")
        prompt_tokens = ids.shape[1]
        if prompt_tokens >= self._limit:
            raise PromptTooLong(prompt_tokens, self._limit)
        kinds = inputs.pop("mm_token_type_ids", torch.zeros_like(ids))
        inputs.pop("attention_mask", None)
        opens_reasoning = self._opens_reasoning(ids[0].tolist())
        if request.resume_ids:
            earlier = torch.tensor([list(request.resume_ids)], dtype=ids.dtype)
            ids = torch.cat([ids, earlier], dim=1)
            kinds = torch.cat([kinds, torch.zeros_like(earlier)], dim=1)
        position_ids, deltas = self._loaded.model.model.get_rope_index(
            ids,
            mm_token_type_ids=kinds,
            image_grid_thw=inputs.get("image_grid_thw"),
            video_grid_thw=inputs.get("video_grid_thw"),
        )
        return Prompt(
            input_ids=ids,
            position_ids=position_ids,
            rope_delta=int(deltas[0, 0]),
            media=inputs,
            prompt_tokens=prompt_tokens,
            opens_reasoning=opens_reasoning,
        )

    def _process(self, conversation: list[dict[str, Any]], request: GenerationRequest) -> dict[str, torch.Tensor]:
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

    def _opens_reasoning(self, ids: list[int]) -> bool:
        start = self._loaded.vocabulary.think_start
        if start is None or start not in ids:
            return False
        after_tag = ids[len(ids) - ids[::-1].index(start) :]
        return all(not self._loaded.vocabulary.token_bytes[i].strip() for i in after_tag)


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
