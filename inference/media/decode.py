"""Decode in the processes of their own: what web and worker call.

Each function has the name and the results of the one in ``images`` or ``videos`` that does the work there. All raise
InvalidMedia for the file, and Unavailable where decoding does not get its turn in ``MEDIA_QUEUE_TIMEOUT_SECONDS``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from django.conf import settings
from PIL import Image

from inference.engine.types import Video
from inference.engine.vision import VisionSizes
from inference.errors import Unavailable
from inference.media import images, videos
from inference.media.budget import RequestBudget
from inference.media.decoding import WALL_FACTOR, decoding_pool
from inference.media.formats.image import WEBP, format_of
from inference.media.images import CheckedImage, header_size
from inference.media.limits import media_limits
from inference.media.videos import VideoShape

T = TypeVar("T")


async def check_image(data: bytes, *, param: str) -> CheckedImage:
    return await finished(submit_image(images.check_image, data, param=param))


async def survey_video(data: bytes, *, param: str) -> VideoShape:
    return await finished(_submit_video(videos.survey_video, data, param))


async def check_video(data: bytes, *, param: str, budget: RequestBudget | None = None) -> VideoShape:
    return await finished(_submit_video(videos.check_video, data, param, budget))


def decode_image(data: bytes, sizes: VisionSizes | None) -> Image.Image:
    """For a thread that may wait."""
    return _wait(submit_image(images.decode_image, data, param=None, more=(sizes,)))


def sample_video(data: bytes) -> Video:
    """For a thread that may wait."""
    return _wait(_submit_video(videos.sample_video, data, None))


def submit_image(work: Callable[..., T], data: bytes, *, param: str | None, more: tuple[Any, ...] = ()) -> Future[T]:
    """Have ``work(data, limits, param, *more)`` done. Raises InvalidMedia where the header says that it is no use."""
    limits = media_limits()
    width, height = header_size(data, param=param)
    return decoding_pool().submit(
        work,
        (data, limits, param, *more),
        kind="image",
        param=param,
        # Libwebp keeps a picture twice as often as the others do.
        pixels=width * height * (2 if format_of(data) is WEBP else 1),
        cpu_seconds=limits.image_decode_seconds,
    )


def _submit_video(work: Callable[..., T], data: bytes, param: str | None, *more: Any) -> Future[T]:
    limits = media_limits()
    return decoding_pool().submit(
        work,
        (data, limits, param, *more),
        kind="video",
        param=param,
        # Frames are decoded one after the other; those that are kept have this many pixels together.
        pixels=limits.video_pixels,
        cpu_seconds=limits.video_decode_seconds,
    )


async def finished(future: Future[T]) -> T:
    """The result, without holding up the event loop."""
    try:
        async with asyncio.timeout(_longest_wait()):
            return await asyncio.wrap_future(future)
    except TimeoutError:
        raise _busy() from None


def _wait(future: Future[T]) -> T:
    try:
        return future.result(_longest_wait())
    except TimeoutError:
        future.cancel()
        raise _busy() from None


def _longest_wait() -> float:
    limits = media_limits()
    longest = max(limits.image_decode_seconds, limits.video_decode_seconds)
    return settings.MEDIA_QUEUE_TIMEOUT_SECONDS + WALL_FACTOR * longest


def _busy() -> Unavailable:
    return Unavailable(
        "Too many pictures and videos wait to be decoded. Try again in a moment.",
        code="decoding_busy",
        headers={"Retry-After": "5"},
    )
