"""Connect to a host that a caller named, but never to a forbidden address.

A host is resolved once, every address of it is checked, and the connection goes to a checked address: a name server
that would answer differently the second time is not asked again.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpcore
import httpx
from django.conf import settings
from django.http.request import validate_host

from inference.errors import InvalidMedia
from inference.media.addresses import Resolver, is_metadata, is_metadata_name, is_public, is_public_name
from inference.media.network import PacedNetwork

#: time-out for one address of a host that may have several
CONNECT_TIMEOUT_SECONDS = 5.0
HEADERS = {"User-Agent": "sambung", "Accept": "*/*", "Accept-Encoding": "identity"}
#: errors of a connection, and those that the libraries below raise for impossible hosts and paths
CONNECTION_ERRORS = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    OSError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Allowed:
    """Which hosts may be asked, beside the rules that hold for all: by name, or every public one."""

    hosts: Sequence[str]
    #: what a caller is told of a host that is not among them
    refusal: str


def media_hosts() -> Allowed:
    return Allowed(
        settings.MEDIA_ALLOWED_HOSTS,
        "This server does not fetch media from the host of the URL. "
        "Its operator lists the allowed hosts in MEDIA_ALLOWED_HOSTS.",
    )


def new_pool() -> httpcore.AsyncConnectionPool:
    """Connections for one caller. Use it as an asynchronous context manager."""
    # Not httpx's client: it reads proxies from the environment, which would resolve the name again without our
    # checks, and it handles redirects itself. No kept connections: two hosts may share an address, and a connection
    # checked for one must not serve the other.
    return httpcore.AsyncConnectionPool(ssl_context=_tls(), max_keepalive_connections=0, network_backend=PacedNetwork())


def parse_url(text: str, param: str, *, base: httpx.URL | None = None) -> httpx.URL:
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


async def _addresses(url: httpx.URL, param: str, resolve: Resolver, allowed: Allowed) -> list[str]:
    """The checked addresses of the URL's host. A single non-public address rejects the host."""
    host = url.raw_host.decode("ascii").strip("[]")
    check_name(host, param, allowed)
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


def check_name(host: str, param: str, allowed: Allowed) -> None:
    """Refuse a host that is forbidden by its name alone, without looking it up."""
    if allowed.hosts and not validate_host(host.rstrip(".").lower(), list(allowed.hosts)):
        raise InvalidMedia(allowed.refusal, param=param)
    if is_metadata_name(host) or not (settings.MEDIA_ALLOW_PRIVATE_HOSTS or is_public_name(host)):
        raise _not_public(param)


def _not_public(param: str) -> InvalidMedia:
    return InvalidMedia("The host of the URL is not on the public internet, so it is not fetched from.", param=param)


async def connect(
    client: httpcore.AsyncConnectionPool,
    url: httpx.URL,
    param: str,
    resolve: Resolver,
    allowed: Allowed,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
) -> httpcore.Response:
    """Send the request to the first checked address that takes the connection; the body is still unread.

    Raises InvalidMedia naming ``param``; the message shows no path and no address of this network.
    """
    failure: Exception | None = None
    for address in await _addresses(url, param, resolve, allowed):
        request = httpcore.Request(
            method,
            httpcore.URL(scheme=url.raw_scheme, host=address, port=url.port, target=url.raw_path),
            headers=[*HEADERS.items(), ("Host", url.netloc.decode("ascii")), *(headers or {}).items()],
            content=content,
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
            raise InvalidMedia("The URL did not answer as a web server does.", param=param) from None
    if _is_about_certificate(failure):
        raise InvalidMedia("The certificate of the host could not be verified.", param=param)
    raise InvalidMedia("The host of the URL could not be reached.", param=param)


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
