"""Fetch and check all media of a request before a session is opened for it.

What is returned, and stored, are the original bytes without metadata: the worker decodes them again with the same
functions, so a resumed run sees the same pixels.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.conf import settings

from inference.engine.vision import ModelVision, VisionSizes
from inference.media import decode
from inference.media.addresses import Resolver
from inference.media.budget import RequestBudget
from inference.media.fetch import byte_limit, fetch_all
from inference.media.formats.blanks import blanked
from inference.media.images import header_size
from inference.media.inline import too_large
from inference.media.limits import check_shape, media_limits
from inference.media.lookups import resolve_host
from inference.media.parts import MediaKind, MediaSource
from inference.media.threads import in_thread, on_media_loop


@dataclass(frozen=True, slots=True)
class FetchedMedia:
    """An image or video that was decoded once without error."""

    kind: MediaKind
    #: the part it came with, like ``messages[0].content[1]``; a form field's name for an upload
    param: str
    #: the original file without its metadata
    data: bytes = field(repr=False)
    #: found from the bytes, whatever the sender stated
    content_type: str
    #: hash of ``data``, in hexadecimal
    sha256: str
    #: pixels, upright
    width: int
    height: int
    #: frames that will be shown to the model; 1 for an image
    frames: int


async def load_all(
    sources: Sequence[MediaSource],
    *,
    model: ModelVision | None = None,
    caller: str = "",
    resolve: Resolver | None = None,
) -> list[FetchedMedia]:
    """Fetch the sources and check that each can be decoded, in order.

    DNS lookups are limited per ``caller``; without it they are limited per request. Raises InvalidMedia naming the
    part, InvalidRequest if the media do not fit the model's context (not checked without ``model``), and Unavailable if
    no decoding process becomes free in time.
    """
    if not sources:
        return []
    resolve = resolve or functools.partial(resolve_host, caller=caller or f"request {id(sources)}")
    fetched = await on_media_loop(fetch_all(sources, resolve=resolve))
    budget = RequestBudget(model, max_pixels=settings.MAX_PIXELS_PER_REQUEST)
    await _count(sources, fetched, budget)
    # A single video is counted when its packets have been read, on the way to its first frame; so it comes first.
    kinds = [source.kind for source in sources]
    late = budget if kinds.count("video") == 1 else None
    sizes = model.sizes if model else None
    checked: dict[int, FetchedMedia] = {}
    # Sequentially: a request with many files holds one decoding process, not all of them.
    for n in sorted(range(len(sources)), key=lambda n: kinds[n] != "video"):
        checked[n] = await check(kinds[n], fetched[n], param=sources[n].param, budget=late, sizes=sizes)
    return [checked[n] for n in range(len(sources))]


async def check(
    kind: MediaKind,
    data: bytes,
    *,
    param: str,
    budget: RequestBudget | None = None,
    sizes: VisionSizes | None = None,
) -> FetchedMedia:
    """Decode one image or video in a separate process to check that it can be decoded. Also used for uploads.

    A large image is decoded as a model of these ``sizes`` will see it. A video is counted in ``budget`` before it is
    decoded. Raises InvalidMedia, Unavailable and what ``budget`` does.
    """
    if len(data) > byte_limit(kind):
        raise too_large(byte_limit(kind), param)
    if kind == "image":
        image = await decode.check_image(data, param=param, sizes=sizes)
        # Without metadata: the location and the device in a photo are private and not needed.
        data = image.data or data
        content_type, width, height, frames = image.content_type, image.width, image.height, 1
    else:
        video = await decode.check_video(data, param=param, budget=budget)
        if video.metadata:
            data = await in_thread(blanked, data, video.metadata)
        content_type, width, height, frames = video.content_type, video.width, video.height, video.frames
    return FetchedMedia(
        kind=kind,
        param=param,
        data=data,
        content_type=content_type,
        sha256=await in_thread(_digest, data),
        width=width,
        height=height,
        frames=frames,
    )


async def _count(sources: Sequence[MediaSource], fetched: Sequence[bytes], budget: RequestBudget) -> None:
    """Refuse media that exceed the limits, images first: their headers are read at once. A single video is left out."""
    limits = media_limits()
    pairs = list(zip(sources, fetched, strict=True))
    for source, data in pairs:
        if source.kind == "image":
            width, height = await in_thread(header_size, data, param=source.param)
            check_shape(width, height, limits, kind="image", param=source.param)
            budget.add_image(width, height)
    budget.check()
    videos = [pair for pair in pairs if pair[0].kind == "video"]
    if len(videos) > 1:
        for source, data in videos:
            shape = await decode.survey_video(data, param=source.param)
            budget.add_video(shape.frames, shape.width, shape.height)
            budget.check()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
