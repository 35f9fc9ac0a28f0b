"""The total pixels and tokens of a request's media, counted from their headers before anything is decoded."""

from __future__ import annotations

from inference.engine.vision import ModelVision
from inference.errors import InvalidMedia, InvalidRequest


class RequestBudget:
    """The pixels and the tokens that the media of one request take. It can be pickled for a decoding process."""

    def __init__(self, model: ModelVision | None, *, max_pixels: int) -> None:
        self._model = model
        self._max_pixels = max_pixels
        self._pixels = 0
        self._tokens = 0

    def add_image(self, width: int, height: int) -> None:
        self._pixels += width * height
        if self._model is not None:
            self._tokens += self._model.sizes.image_tokens(width, height)

    def add_video(self, frames: int, width: int, height: int) -> None:
        """A video as it will be sampled."""
        self._pixels += frames * width * height
        if self._model is not None:
            self._tokens += self._model.sizes.video_tokens(frames, width, height)

    def check(self) -> None:
        """Raises InvalidRequest if the media alone do not fit the model's context or have too many pixels."""
        if self._model is not None and self._tokens >= self._model.context_tokens:
            context = self._model.context_tokens
            raise InvalidRequest(
                f"The images and videos take {self._tokens} tokens; the context holds {context}, text and answer "
                f"included. That is at least {self._tokens - context + 1} too many: send fewer or smaller ones.",
                param="messages",
                code="context_length_exceeded",
            )
        if self._pixels > self._max_pixels:
            raise InvalidMedia(
                f"The images and videos have {self._pixels} pixels together; at most "
                f"{self._max_pixels} are allowed in one request. Send fewer or smaller ones.",
                param="messages",
            )
