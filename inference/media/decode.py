"""Entry points for decoding in separate processes, used by web and worker.

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
from inference.media import images, thumbnails, videos
from inference.media.budget import RequestBudget
from inference.media.decoding import WALL_FACTOR, decoding_pool
from inference.media.formats.image import AVIF, HEIC, PNG, WEBP, format_of
from inference.media.images import CheckedImage, decoded_pixels, header_size
from inference.media.large import WHOLE_PIXELS, png_pixels
from inference.media.limits import check_shape, media_limits
from inference.media.shared import SharedPixels
from inference.media.videos import VideoShape, max_video_pixels

T = TypeVar("T")

#: pixels charged for the decoder's own buffers; a video that is only checked needs no more, as no frame is kept
PIXELS_OF_CHECK = 2**24
#: how long a worker waits for a decoding process
WORKER_QUEUE_SECONDS = 60.0


async def check_image(data: bytes, *, param: str, sizes: VisionSizes | None = None) -> CheckedImage:
    return await finished(submit_image(images.check_image, data, param=param, more=(sizes,), sizes=sizes))


async def survey_video(data: bytes, *, param: str) -> VideoShape:
    return await finished(_submit_video(videos.survey_video, data, param, PIXELS_OF_CHECK))


async def check_video(data: bytes, *, param: str, budget: RequestBudget | None = None) -> VideoShape:
    return await finished(_submit_video(videos.check_video, data, param, PIXELS_OF_CHECK, budget))


def decode_image(data: bytes, sizes: VisionSizes | None) -> Image.Image:
    """Blocks: never call it on an event loop."""
    with SharedPixels() as shared:
        more = (sizes, shared.place)
        placed = _wait(submit_image(images.place_image, data, param=None, more=more, sizes=sizes))
        return Image.fromarray(shared.pixels(placed))


def sample_video(data: bytes, sizes: VisionSizes | None = None) -> Video:
    """Blocks: never call it on an event loop."""
    pixels = PIXELS_OF_CHECK + max_video_pixels(media_limits(), sizes)
    with SharedPixels() as shared:
        placed, times = _wait(_submit_video(videos.place_video, data, None, pixels, sizes, shared.place))
        return Video(shared.pixels(placed), times)


def make_thumbnail(kind: str, data: bytes, longest_side: int) -> bytes:
    """A JPEG of an image, or of a video's first frame. Blocks: never call it on an event loop."""
    if kind == "image":
        return _wait(submit_image(thumbnails.image_thumbnail, data, param=None, more=(longest_side,)))
    return _wait(_submit_video(thumbnails.video_thumbnail, data, None, PIXELS_OF_CHECK, longest_side))


def submit_image(
    work: Callable[..., T],
    data: bytes,
    *,
    param: str | None,
    more: tuple[Any, ...] = (),
    sizes: VisionSizes | None = None,
    pixels: int | None = None,
) -> Future[T]:
    """Submit ``work(data, limits, param, *more)``. Raises InvalidMedia if the header already rules the file out.

    ``sizes`` are those of the model, if the image is to be reduced to the size that the model sees. ``pixels`` is given
    for data that is not an image but becomes one, such as a page of a document.
    """
    limits = media_limits()
    is_large = False
    if pixels is None:
        width, height = header_size(data, param=param)
        check_shape(width, height, limits, kind="image", param=param)
        is_large = width * height > WHOLE_PIXELS
        pixels = _pixels_at_once(data, width, height, sizes)
    return decoding_pool().submit(
        work,
        (data, limits, param, *more),
        kind="image",
        param=param,
        pixels=pixels,
        is_large=is_large,
        cpu_seconds=limits.image_decode_seconds,
    )


def _pixels_at_once(data: bytes, width: int, height: int, sizes: VisionSizes | None) -> int:
    kind = format_of(data)
    if kind is PNG:
        return png_pixels(data, width, height, decoded_pixels(width, height, sizes))
    # These decoders need twice as many copies of an image as the others.
    return width * height * (2 if kind in (WEBP, HEIC, AVIF) else 1)


def _submit_video(work: Callable[..., T], data: bytes, param: str | None, pixels: int, *more: Any) -> Future[T]:
    limits = media_limits()
    return decoding_pool().submit(
        work,
        (data, limits, param, *more),
        kind="video",
        param=param,
        pixels=pixels,
        is_large=True,
        cpu_seconds=limits.video_decode_seconds,
    )


async def finished(future: Future[T]) -> T:
    """The result, without blocking the event loop."""
    result = asyncio.wrap_future(future)
    try:
        try:
            async with asyncio.timeout(settings.MEDIA_QUEUE_TIMEOUT_SECONDS):
                return await asyncio.shield(result)
        except TimeoutError:
            # Work that has started is not cancelled: it ends soon, within its own time limit.
            if future.cancel():
                raise _busy() from None
        async with asyncio.timeout(_longest_work()):
            return await result
    except TimeoutError:
        raise _busy() from None
    except asyncio.CancelledError:
        future.cancel()
        raise


def _wait(future: Future[T]) -> T:
    """Like ``finished``, but blocking and with a longer time-out: the request has already been accepted."""
    try:
        return future.result(WORKER_QUEUE_SECONDS + _longest_work())
    except TimeoutError:
        future.cancel()
        raise _busy() from None


def _longest_work() -> float:
    limits = media_limits()
    return WALL_FACTOR * max(limits.image_decode_seconds, limits.video_decode_seconds)


def _busy() -> Unavailable:
    return Unavailable(
        "Too many images and videos are waiting to be decoded. Try again in a moment.",
        code="decoding_busy",
        headers={"Retry-After": "5"},
    )
