"""Which network addresses a media URL may lead to, and how a host name becomes addresses."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
#: (host, port) → addresses as text, best first; raises OSError where the name is not known
Resolver = Callable[[str, int], Awaitable[list[str]]]

#: prefixes whose last 32 bits are an IPv4 address that a gateway connects to (RFC 6052)
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet, and every IPv4 address hidden inside it does too."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    hidden = _hidden_ipv4(ip)
    if hidden:
        return all(_is_public_ipv4(inner) for inner in hidden)
    if isinstance(ip, ipaddress.IPv4Address):
        return _is_public_ipv4(ip)
    # Python counts the deprecated site-local range and ::/8 (with ::127.0.0.1 in it) as global.
    return ip.is_global and not (ip.is_multicast or ip.is_site_local or ip.is_reserved)


def _is_public_ipv4(ip: ipaddress.IPv4Address) -> bool:
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


def _hidden_ipv4(ip: IPAddress) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that packets to this IPv6 address end at, if it is of a translated kind."""
    if isinstance(ip, ipaddress.IPv4Address):
        return []
    if ip.ipv4_mapped is not None:
        return [ip.ipv4_mapped]
    if ip.sixtofour is not None:
        return [ip.sixtofour]
    if ip.teredo is not None:
        return list(ip.teredo)
    if ip in NAT64:
        return [ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)]
    return []


async def resolve_host(host: str, port: int) -> list[str]:
    """Ask the system for a host's addresses, off the event loop. Raises OSError where it has none."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_threads(), _lookup, host, port)


def _lookup(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # A dict keeps the system's order and drops repeats.
    return list({str(entry[4][0]): None for entry in found})


@functools.cache
def _threads() -> ThreadPoolExecutor:
    # Apart from the decoding threads: a name server that does not answer must not hold up decoding.
    return ThreadPoolExecutor(max_workers=8, thread_name_prefix="media-dns")
