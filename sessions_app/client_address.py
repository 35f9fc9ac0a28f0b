"""From where a request comes: the address of its connection, or what proxies that are trusted say of it."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import ipaddress
import re
from collections.abc import Iterator

from django.conf import settings
from django.http import HttpRequest

from sessions_app.middleware import Middleware, Steps

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

#: leading bits that all IPv6 addresses of one client have in common: a customer gets at least a /64
CLIENT_PREFIX_BITS = 64
#: some proxies write the port after the address
_WITH_PORT = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<v4>[\d.]+))(?::\d+)?")


_current: contextvars.ContextVar[str] = contextvars.ContextVar("client_address", default="")


def current_client_address() -> str:
    """The IP address of the client that this code runs for; "" outside of a request."""
    return _current.get()


@contextlib.contextmanager
def client_address_scope(address: str) -> Iterator[None]:
    """What runs inside runs for the client at this address."""
    token = _current.set(address)
    try:
        yield
    finally:
        _current.reset(token)


class ClientAddressMiddleware(Middleware):
    """Tells what runs for a request, however deep, from where it came."""

    def around(self, request: HttpRequest) -> Steps:
        with client_address_scope(client_address(request)):
            return (yield)


def client_address(request: HttpRequest) -> str:
    """The client's IP address, or "" where the connection has none.

    ``X-Forwarded-For`` is read from its end, one entry for each proxy of ``TRUSTED_PROXIES`` that the request came
    through. Earlier entries were written by the client, and are ignored.
    """
    return client_address_of(request.META.get("REMOTE_ADDR", ""), request.META.get("HTTP_X_FORWARDED_FOR", ""))


def client_address_of(remote: str, forwarded: str) -> str:
    """As ``client_address``, for a connection's address and an ``X-Forwarded-For``, where there is no request."""
    address = _client(remote, forwarded)
    return str(address) if address is not None else ""


def client_block(request: HttpRequest) -> str:
    """What limits for each client count by: the IPv4 address, or the network of an IPv6 address. "" if unknown."""
    return client_block_of(request.META.get("REMOTE_ADDR", ""), request.META.get("HTTP_X_FORWARDED_FOR", ""))


def client_block_of(remote: str, forwarded: str) -> str:
    """As ``client_block``, for a connection's address and an ``X-Forwarded-For``, where there is no request yet."""
    address = _client(remote, forwarded)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((address, CLIENT_PREFIX_BITS), strict=False).network_address)
    return str(address) if address is not None else ""


def _client(remote: str, forwarded: str) -> IPAddress | None:
    address = _parse(remote)
    proxies = _networks(tuple(settings.TRUSTED_PROXIES))
    entries = forwarded.split(",") if proxies else []
    while entries and address is not None and any(address in network for network in proxies):
        before = _parse(entries.pop().strip())
        if before is None:
            break
        address = before
    return address


def _parse(text: str) -> IPAddress | None:
    if match := _WITH_PORT.fullmatch(text):
        text = match["v6"] or match["v4"]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped) or address


@functools.lru_cache(maxsize=4)
def _networks(proxies: tuple[str, ...]) -> tuple[IPNetwork, ...]:
    return tuple(map(ipaddress.ip_network, proxies))
