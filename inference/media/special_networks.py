"""Networks without public web servers, each with the document that says so.

The source is the IANA registries of special-purpose addresses and of multicast addresses. The interpreter has such a
table too, but what it knows depends on the Python release. The registries call some of these networks globally
reachable. They are listed here too, because they lead to a protocol's own servers, such as those of AS112.
"""

from __future__ import annotations

import ipaddress

#: network → why it is not public
IPV4_NETWORKS: dict[str, str] = {
    "0.0.0.0/8": "RFC 791: this network",
    "10.0.0.0/8": "RFC 1918: private use",
    "100.64.0.0/10": "RFC 6598: shared by carriers",
    "127.0.0.0/8": "RFC 1122: loopback",
    "169.254.0.0/16": "RFC 3927: link-local",
    "172.16.0.0/12": "RFC 1918: private use",
    "192.0.0.0/24": "RFC 6890: protocol assignments, DS-Lite, port control, Oracle's metadata",
    "192.0.2.0/24": "RFC 5737: documentation",
    "192.31.196.0/24": "RFC 7535: AS112",
    "192.52.193.0/24": "RFC 7450: automatic multicast tunnels",
    "192.88.99.0/24": "RFC 7526: 6to4 relays, withdrawn",
    "192.168.0.0/16": "RFC 1918: private use",
    "192.175.48.0/24": "RFC 7534: AS112",
    "198.18.0.0/15": "RFC 2544: benchmarks",
    "198.51.100.0/24": "RFC 5737: documentation",
    "203.0.113.0/24": "RFC 5737: documentation",
    "224.0.0.0/4": "RFC 5771: multicast",
    "240.0.0.0/4": "RFC 1112: reserved, with limited broadcast (RFC 919)",
}

#: The only IPv6 addresses that are allocated for the internet (RFC 4291). The table below lists networks outside of it
#: too, so that it can be compared with the registry.
IPV6_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
IPV6_NETWORKS: dict[str, str] = {
    "::/128": "RFC 4291: unspecified",
    "::1/128": "RFC 4291: loopback",
    "::/96": "RFC 4291: IPv4-compatible, withdrawn",
    "::ffff:0:0:0/96": "RFC 2765: IPv4-translated (SIIT), withdrawn by RFC 6145",
    "64:ff9b:1::/48": "RFC 8215: translation within a site",
    "100::/64": "RFC 6666: discarded",
    "100:0:0:1::/64": "RFC 9780: dummy prefix",
    "200::/7": "RFC 4048: mapped OSI addresses, withdrawn",
    "2001:1::/32": "RFC 7723, RFC 8155, RFC 9665: anycast of port control, TURN and DNS-SD",
    "2001:2::/48": "RFC 5180: benchmarks",
    "2001:3::/32": "RFC 7450: automatic multicast tunnels",
    "2001:4:112::/48": "RFC 7535: AS112",
    "2001:10::/28": "RFC 4843: cryptographic hashes, withdrawn",
    "2001:20::/28": "RFC 7343: cryptographic hashes",
    "2001:30::/28": "RFC 9374: drone identifiers",
    "2001:db8::/32": "RFC 3849: documentation",
    "2620:4f:8000::/48": "RFC 7534: AS112",
    "3ffe::/16": "RFC 3701: 6bone, withdrawn",
    "3fff::/20": "RFC 9637: documentation",
    "5f00::/16": "RFC 9602: segment routing",
    "fc00::/7": "RFC 4193: unique local",
    "fe80::/10": "RFC 4291: link-local",
    "fec0::/10": "RFC 3879: site-local, withdrawn",
    "ff00::/8": "RFC 4291: multicast",
}
#: This whole network is for protocols. Teredo (RFC 4380) is a part of it and is judged by the IPv4 addresses in it.
IPV6_PROTOCOLS = ipaddress.IPv6Network("2001::/23")
TEREDO = ipaddress.IPv6Network("2001::/32")

#: Cloud metadata services, which often return credentials. Not all of these look private. They are refused even
#: where MEDIA_ALLOW_PRIVATE_HOSTS opens the local network.
METADATA_NETWORKS: dict[str, str] = {
    "169.254.0.0/16": "AWS, Azure, Google, Oracle, DigitalOcean, Hetzner, Tencent and containers on them",
    "168.63.129.16/32": "Azure",
    "100.100.100.200/32": "Alibaba",
    "192.0.0.192/32": "Oracle",
    "fe80::/10": "OpenStack",
    "fd00:ec2::/32": "AWS",
    "fd00:42::/32": "Scaleway",
    "fd20:ce::/32": "Google",
}
#: the same by name, because the address may change
METADATA_NAMES = (
    "metadata",
    "metadata.goog",
    "metadata.google.internal",
    "metadata.tencentyun.com",
    "metadata.platformequinix.com",
    "metadata.packet.net",
    "instance-data",
    "instance-data.ec2.internal",
    "rancher-metadata",
)
#: names that never belong to the public internet
PRIVATE_SUFFIXES: dict[str, str] = {
    "localhost": "RFC 6761",
    "local": "RFC 6762: multicast DNS",
    "internal": "ICANN 2024: private use",
    "home.arpa": "RFC 8375: home networks",
    "localdomain": "by custom",
    "onion": "RFC 7686",
}
