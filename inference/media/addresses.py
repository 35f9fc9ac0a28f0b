"""Which network addresses a media URL may point to."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable

from inference.media.special_networks import (
    IPV4_NETWORKS,
    IPV6_GLOBAL_UNICAST,
    IPV6_NETWORKS,
    IPV6_PROTOCOLS,
    METADATA_NAMES,
    METADATA_NETWORKS,
    PRIVATE_SUFFIXES,
    TEREDO,
)

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
#: (host, port) → addresses as text, best first; raises OSError where the name is not known
Resolver = Callable[[str, int], Awaitable[list[str]]]

#: prefixes whose last 32 bits are the IPv4 address that a gateway connects to (RFC 6052)
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
#: all such prefixes: also those of translation within a site (RFC 8215), and of IPv4-compatible and IPv4-translated
#: addresses, which are not public but may lead to the IPv4 address
LAST_32_BITS = (NAT64, *map(ipaddress.IPv6Network, ("64:ff9b:1::/48", "::/96", "::ffff:0:0:0/96")))
#: the 32 bits before the IPv4 address in an ISATAP address (RFC 5214), without and with the bit for "globally unique"
ISATAP_MARKS = {0x00005EFE, 0x02005EFE}

_NOT_PUBLIC = tuple(map(ipaddress.ip_network, (*IPV4_NETWORKS, *IPV6_NETWORKS, *METADATA_NETWORKS)))
_METADATA = tuple(map(ipaddress.ip_network, METADATA_NETWORKS))


def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet, and every IPv4 address hidden inside it does too."""
    ip = _parse(address)
    if ip is None:
        return False
    hidden = _hidden_ipv4(ip)
    return all(map(_is_listed_nowhere, hidden)) and (_is_translated(ip) or _is_listed_nowhere(ip))


def is_metadata(address: str) -> bool:
    """Whether this is the address of a cloud metadata service."""
    ip = _parse(address.partition("%")[0])
    return ip is not None and any(inner in network for inner in (ip, *_hidden_ipv4(ip)) for network in _METADATA)


def is_public_name(host: str) -> bool:
    """False for names without a domain, of this machine or of a local network. Addresses pass: see ``is_public``."""
    name = host.rstrip(".").lower()
    if ":" in name:
        return True
    if "." not in name or is_metadata_name(name):
        return False
    return not any(name.endswith(f".{suffix}") for suffix in PRIVATE_SUFFIXES)


def is_metadata_name(host: str) -> bool:
    """Whether this is the name of a cloud's metadata service."""
    return host.rstrip(".").lower() in METADATA_NAMES


def _parse(address: str) -> IPAddress | None:
    """None for what is not an address, and for an address with a zone, which is only valid on one link."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return None
    return None if isinstance(ip, ipaddress.IPv6Address) and ip.scope_id is not None else ip


def _is_listed_nowhere(ip: IPAddress) -> bool:
    """Judge by this module's table and by the interpreter's, which may have newer entries."""
    if any(ip in network for network in _NOT_PUBLIC) or ip.is_multicast or ip.is_reserved:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.is_global
    if ip in TEREDO or ip.sixtofour is not None:
        return True  # the interpreter calls all of Teredo private; the IPv4 addresses in it are checked above
    return ip.is_global and ip in IPV6_GLOBAL_UNICAST and ip not in IPV6_PROTOCOLS


def _is_translated(ip: IPAddress) -> bool:
    """Whether only the IPv4 address inside it is judged."""
    return isinstance(ip, ipaddress.IPv6Address) and (ip.ipv4_mapped is not None or ip in NAT64)


def _hidden_ipv4(ip: IPAddress) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that packets to this IPv6 address end at, or pass, if it is of a kind that holds some."""
    if isinstance(ip, ipaddress.IPv4Address):
        return []
    found = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
    if any(ip in network for network in LAST_32_BITS) or (int(ip) >> 32) & 0xFFFFFFFF in ISATAP_MARKS:
        found.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
    return [inner for inner in found if inner is not None]
