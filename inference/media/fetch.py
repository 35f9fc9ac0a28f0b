"""Get the bytes of media from wherever a message says they are, but never from a forbidden address.

A URL's host is resolved once, every address of it is checked, and the connection goes to a checked address:
a name server that would answer differently the second time is not asked again. Redirects are followed here, each
checked like the first URL.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
import time
from collections.abc import Sequence

import httpcore
import httpx
from django.conf import settings
from django.http.request import validate_host

from inference.errors import InvalidMedia
from inference.media.addresses import Resolver, is_metadata, is_metadata_name, is_public, is_public_name
from inference.media.inline import decode_base64, decode_data_url, in_words, too_large
from inference.media.local import read_local
from inference.media.lookups import resolve_host
from inference.media.network import PacedNetwork
from inference.media.parts import MediaKind, MediaSource
from inference.media.threads import in_thread

MAX_REDIRECTS = 3
#: time-out for one address of a host that may have several; all downloads of a request together have
#: MEDIA_FETCH_TIMEOUT_SECONDS
CONNECT_TIMEOUT_SECONDS = 5.0
#: fetches of one request that run at once
CONCURRENT_FETCHES = 4
REDIRECT_STATUSES = {301, 302, 303, 307, 308}
HEADERS = {"User-Agent": "sambung", "Accept": "*/*", "Accept-Encoding": "identity"}
#: a body that is slower than this after this many seconds does not arrive in time anyway
SLOWEST_BYTES_PER_SECOND, SLOW_AFTER_SECONDS = 8192, 5.0
#: errors of a connection, and those that the libraries below raise for impossible hosts and paths
CONNECTION_ERRORS = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    OSError,
    ValueError,
)


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
    # Not httpx's client: it reads proxies from the environment, which would resolve the name again without our
    # checks, and it handles redirects itself. No kept connections: two hosts may share an address, and a connection
    # checked for one must not serve the other.
    async with httpcore.AsyncConnectionPool(
        ssl_context=_tls(), max_keepalive_connections=0, network_backend=PacedNetwork()
    ) as client:
        url = _url(source.address, param)
        for _ in range(MAX_REDIRECTS + 1):
            response = await _connect(client, url, param, resolve)
            try:
                if response.status not in REDIRECT_STATUSES:
                    return await _body(response, limit, budget, param)
                target = httpx.Headers(response.headers).get("Location", "")
            finally:
                await response.aclose()
            if not target:
                raise InvalidMedia("The address answered with a redirect that leads nowhere.", param=param)
            url = _url(target, param, base=url)
    raise InvalidMedia(f"The address redirects more than {MAX_REDIRECTS} times.", param=param)


def _url(text: str, param: str, *, base: httpx.URL | None = None) -> httpx.URL:
    """Parse a URL and refuse a forbidden one before any name is looked up."""
    try:
        url = base.join(text) if base is not None else httpx.URL(text)
    except (httpx.InvalidURL, ValueError):  # ValueError: invalid characters, or a host that IDNA cannot encode
        raise InvalidMedia("The URL is malformed.", param=param) from None
    if url.scheme not in ("http", "https"):
        raise InvalidMedia("Only http and https URLs are fetched.", param=param)
    if url.userinfo:
        raise InvalidMedia("A URL with a user name or password is not fetched.", param=param)
    # Not url.host, which decodes IDNA and refuses the characters of emoji domains.
    if not url.raw_host:
        raise InvalidMedia("The URL names no host.", param=param)
    if url.port is not None and not 0 < url.port < 65536:
        raise InvalidMedia("The URL's port must be between 1 and 65535.", param=param)
    return url


async def _addresses(url: httpx.URL, param: str, resolve: Resolver) -> list[str]:
    """The checked addresses of the URL's host. A single non-public address rejects the host."""
    host = url.raw_host.decode("ascii").strip("[]")
    _check_name(host, param)
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        found = await resolve(host, port)
    except (OSError, ValueError):  # ValueError: a name with an empty or overlong label
        found = []
    if not found:
        raise InvalidMedia("The host of the URL was not found.", param=param)
    if any(is_metadata(address) for address in found):
        raise _not_public(param)
    if not settings.MEDIA_ALLOW_PRIVATE_HOSTS and not all(is_public(address) for address in found):
        raise _not_public(param)
    return found


def _check_name(host: str, param: str) -> None:
    """Refuse a host that is forbidden by its name alone, without looking it up."""
    allowed = settings.MEDIA_ALLOWED_HOSTS
    if allowed and not validate_host(host.rstrip(".").lower(), allowed):
        raise InvalidMedia(
            "The host of the URL is not among those that this server fetches media from. "
            "Its operator lists them in MEDIA_ALLOWED_HOSTS.",
            param=param,
        )
    if is_metadata_name(host) or not (settings.MEDIA_ALLOW_PRIVATE_HOSTS or is_public_name(host)):
        raise _not_public(param)


def _not_public(param: str) -> InvalidMedia:
    return InvalidMedia(
        "The host of the URL is not on the public internet, so nothing is fetched from it.", param=param
    )


async def _connect(
    client: httpcore.AsyncConnectionPool, url: httpx.URL, param: str, resolve: Resolver
) -> httpcore.Response:
    """Send the request to the first checked address that takes the connection; the body is still unread."""
    failure: Exception | None = None
    for address in await _addresses(url, param, resolve):
        request = httpcore.Request(
            "GET",
            httpcore.URL(scheme=url.raw_scheme, host=address, port=url.port, target=url.raw_path),
            headers=[*HEADERS.items(), ("Host", url.netloc.decode("ascii"))],
            extensions={
                "timeout": {"connect": CONNECT_TIMEOUT_SECONDS},
                # The certificate is checked against the name, not against the address.
                "sni_hostname": url.raw_host.decode("ascii").strip("[]"),
            },
        )
        try:
            return await client.handle_async_request(request)
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            failure = error
        except CONNECTION_ERRORS:
            raise InvalidMedia("The address did not answer as a web server does.", param=param) from None
    if _is_about_certificate(failure):
        raise InvalidMedia("The certificate of the host could not be verified.", param=param)
    raise InvalidMedia("The host of the URL could not be reached.", param=param)


async def _body(response: httpcore.Response, limit: int, budget: ByteBudget, param: str) -> bytes:
    headers = httpx.Headers(response.headers)
    if not 200 <= response.status < 300:
        raise InvalidMedia(f"The address answered with status {response.status}.", param=param)
    if headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
        # Compression was not requested, and a few kilobytes may decompress to gigabytes.
        raise InvalidMedia("The address answered with a compressed body, which is not accepted.", param=param)
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
                raise InvalidMedia(
                    f"The address sends less than {SLOWEST_BYTES_PER_SECOND} bytes a second.", param=param
                )
    except CONNECTION_ERRORS:
        raise InvalidMedia("The connection broke off before the file had arrived.", param=param) from None
    return bytes(body)


def _is_about_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


@functools.cache
def _tls() -> ssl.SSLContext:
    # Reading the certificates takes some 20 ms; once per process is enough.
    return httpx.create_ssl_context()
