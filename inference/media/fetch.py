"""Get the bytes of media from wherever a message says they are, but never from a forbidden address.

The addresses are checked by ``destinations``. Redirects are followed here, each checked like the first URL.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import httpcore
import httpx
from django.conf import settings

from inference.errors import InvalidMedia
from inference.media.addresses import Resolver
from inference.media.destinations import CONNECTION_ERRORS, connect, media_hosts, new_pool, parse_url
from inference.media.inline import decode_base64, decode_data_url, in_words, too_large
from inference.media.local import read_local
from inference.media.lookups import resolve_host
from inference.media.parts import MediaKind, MediaSource
from inference.media.threads import in_thread

MAX_REDIRECTS = 3
#: fetches of one request that run at once
CONCURRENT_FETCHES = 4
REDIRECT_STATUSES = {301, 302, 303, 307, 308}
#: a body that is slower than this after this many seconds does not arrive in time anyway
SLOWEST_BYTES_PER_SECOND, SLOW_AFTER_SECONDS = 8192, 5.0


class ByteBudget:
    """Limits the bytes of all media of a request together, because they are all in memory at the same time."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.left = limit

    def take(self, amount: int, param: str) -> None:
        """Count ``amount`` more bytes. Raises InvalidMedia when they are too many."""
        self.left -= amount
        if self.left < 0:
            raise InvalidMedia(
                f"All media of the request are together larger than the limit of {in_words(self.limit)}.",
                param=param,
            )


def byte_limit(kind: MediaKind) -> int:
    """The most bytes that one image or video may have."""
    return settings.MAX_IMAGE_BYTES if kind == "image" else settings.MAX_VIDEO_BYTES


async def fetch_all(sources: Sequence[MediaSource], *, resolve: Resolver = resolve_host) -> list[bytes]:
    """The bytes of every source, in order, a few at a time; the first refusal stops the others.

    MEDIA_FETCH_TIMEOUT_SECONDS is for all of them together, not for each download.
    """
    budget = ByteBudget(settings.MAX_MEDIA_BYTES_PER_REQUEST)
    turns = asyncio.Semaphore(CONCURRENT_FETCHES)
    deadline = _deadline()

    async def one(source: MediaSource) -> bytes:
        async with turns:
            return await fetch(source, budget=budget, resolve=resolve, deadline=deadline)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(source)) for source in sources]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def fetch(
    source: MediaSource,
    *,
    budget: ByteBudget | None = None,
    resolve: Resolver = resolve_host,
    deadline: float | None = None,
) -> bytes:
    """The bytes of one source, at most ``byte_limit`` of them.

    What is downloaded must be there before ``deadline``, a time of the event loop; without one it has
    MEDIA_FETCH_TIMEOUT_SECONDS. Raises InvalidMedia naming the source's part; the message shows no path and no address
    of this network.
    """
    limit, param = byte_limit(source.kind), source.param
    budget = budget or ByteBudget(settings.MAX_MEDIA_BYTES_PER_REQUEST)
    if source.origin == "url":
        try:
            async with asyncio.timeout_at(deadline or _deadline()):
                return await _download(source, limit, budget, resolve)
        except TimeoutError:
            seconds = settings.MEDIA_FETCH_TIMEOUT_SECONDS
            raise InvalidMedia(
                f"Fetching the {source.kind} took longer than {seconds:g} seconds.", param=param
            ) from None
    if source.origin == "path":
        data = await in_thread(read_local, source.address, limit=limit, param=param)
    else:
        decode = decode_data_url if source.origin == "data" else decode_base64
        data = await in_thread(decode, source.reference, limit=limit, param=param)
    budget.take(len(data), param)
    return data


def _deadline() -> float:
    return asyncio.get_running_loop().time() + settings.MEDIA_FETCH_TIMEOUT_SECONDS


async def _download(source: MediaSource, limit: int, budget: ByteBudget, resolve: Resolver) -> bytes:
    param = source.param
    async with new_pool() as client:
        url = parse_url(source.address, param)
        for _ in range(MAX_REDIRECTS + 1):
            response = await connect(client, url, param, resolve, media_hosts())
            try:
                if response.status not in REDIRECT_STATUSES:
                    return await _body(response, limit, budget, param)
                target = httpx.Headers(response.headers).get("Location", "")
            finally:
                await response.aclose()
            if not target:
                raise InvalidMedia("The URL answered with a redirect that has no target.", param=param)
            url = parse_url(target, param, base=url)
    raise InvalidMedia(f"The URL redirects more than {MAX_REDIRECTS} times.", param=param)


async def _body(response: httpcore.Response, limit: int, budget: ByteBudget, param: str) -> bytes:
    headers = httpx.Headers(response.headers)
    if not 200 <= response.status < 300:
        raise InvalidMedia(f"The URL answered with status {response.status}.", param=param)
    if headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
        # Compression was not requested, and a few kilobytes may decompress to gigabytes.
        raise InvalidMedia("The URL answered with a compressed body, which is not accepted.", param=param)
    length = headers.get("Content-Length", "")
    if length.isdecimal() and (len(length) > 19 or int(length) > limit):
        raise too_large(limit, param)
    body = bytearray()
    began = time.monotonic()
    try:
        async for chunk in response.aiter_stream():
            if len(body) + len(chunk) > limit:
                raise too_large(limit, param)
            budget.take(len(chunk), param)
            body += chunk
            seconds = time.monotonic() - began
            if seconds > SLOW_AFTER_SECONDS and len(body) < SLOWEST_BYTES_PER_SECOND * seconds:
                raise InvalidMedia(f"The URL sends less than {SLOWEST_BYTES_PER_SECOND} bytes a second.", param=param)
    except CONNECTION_ERRORS:
        raise InvalidMedia("The connection was closed before the whole file had arrived.", param=param) from None
    return bytes(body)
