"""Fetch and check all media of a request before a session is opened for it.

What is returned, and stored, are the original bytes, of pictures those that make pixels: the worker decodes them again
with the same functions, so a resumed run sees the same pixels.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from inference.errors import InvalidMedia
from inference.media.addresses import Resolver
from inference.media.fetch import byte_limit, fetch_all
from inference.media.images import decode_bare, image_content_type, take_apart
from inference.media.inline import too_large
from inference.media.limits import media_limits
from inference.media.lookups import resolve_host
from inference.media.parts import MediaKind, MediaSource
from inference.media.threads import in_thread, on_media_loop
from inference.media.videos import sample_video, video_content_type


@dataclass(frozen=True, slots=True)
class FetchedMedia:
    """An image or video that has been decoded once without complaint."""

    kind: MediaKind
    #: the part it came with, like ``messages[0].content[1]``; a form field's name for an upload
    param: str
    #: the original file; a picture without its metadata
    data: bytes = field(repr=False)
    #: as the bytes themselves show it, whatever their sender said
    content_type: str
    #: of ``data``, in hexadecimal
    sha256: str
    #: pixels, upright
    width: int
    height: int
    #: frames that will be shown to the model; 1 for an image
    frames: int


async def load_all(
    sources: Sequence[MediaSource], *, caller: str = "", resolve: Resolver | None = None
) -> list[FetchedMedia]:
    """Fetch the sources and check that each can be decoded, in order. Raises InvalidMedia naming the part.

    ``caller`` is whoever sent them: what one caller asks of the name servers is bounded.
    """
    if not sources:
        return []
    resolve = resolve or functools.partial(resolve_host, caller=caller)
    fetched = await on_media_loop(fetch_all(sources, resolve=resolve))
    # One after the other: a request with many files holds one decoding thread, not all of them.
    return [await check(source.kind, data, param=source.param) for source, data in zip(sources, fetched, strict=True)]


async def check(kind: MediaKind, data: bytes, *, param: str) -> FetchedMedia:
    """Decode one image or video on a media thread to see that it can be. Serves uploads too.

    Raises InvalidMedia.
    """
    if len(data) > byte_limit(kind):
        raise too_large(byte_limit(kind), param)
    return await in_thread(_checked, kind, data, param)


def _checked(kind: MediaKind, data: bytes, param: str) -> FetchedMedia:
    limits = media_limits()
    try:
        if kind == "image":
            file = take_apart(data, limits, param=param)
            # Without metadata: the place and the device that a photograph names are nobody's business here.
            data = file.data
            content_type = image_content_type(data, param=param)
            (width, height), frames = decode_bare(file, limits, param=param).size, 1
        else:
            video = sample_video(data, limits, param=param)
            content_type = video_content_type(data, param=param)
            frames, height, width, _ = video.frames.shape
    except MemoryError:
        raise InvalidMedia(f"The {kind} needs more memory to decode than there is.", param=param) from None
    return FetchedMedia(
        kind=kind,
        param=param,
        data=data,
        content_type=content_type,
        sha256=hashlib.sha256(data).hexdigest(),
        width=width,
        height=height,
        frames=frames,
    )
