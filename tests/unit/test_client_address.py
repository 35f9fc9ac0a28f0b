"""The client's address: nothing that a stranger writes into a header changes it."""

from __future__ import annotations

import pytest
from django.test import RequestFactory, override_settings

from sessions_app.client_address import client_address, client_block


def address(remote: str, forwarded: str | None = None, *, proxies: list[str] | None = None) -> str:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    request = RequestFactory().get("/", headers=headers, REMOTE_ADDR=remote)
    with override_settings(TRUSTED_PROXIES=proxies or []):
        return client_address(request)


@pytest.mark.parametrize(
    ("remote", "found"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:DB8:0::7", "2001:db8::7"),
        ("fe80::7%eth0", "fe80::7"),
        ("", ""),
        ("unix:", ""),
    ],
)
def test_without_proxies_it_is_the_connections(remote: str, found: str) -> None:
    assert address(remote) == found
    assert address(remote, "198.51.100.1") == found
    assert address(remote, "198.51.100.1", proxies=["10.0.0.0/8"]) == found


@pytest.mark.parametrize(
    ("forwarded", "found"),
    [
        ("198.51.100.1", "198.51.100.1"),
        ("127.0.0.1, 198.51.100.1", "198.51.100.1"),
        ("192.0.2.66, 198.51.100.1, 10.0.0.3", "198.51.100.1"),
        ("198.51.100.1:4711", "198.51.100.1"),
        ("2001:db8::9", "2001:db8::9"),
        ("[2001:db8::9]:4711", "2001:db8::9"),
        ("198.51.100.1, nonsense", "10.0.0.2"),
        ("198.51.100.1, nonsense, 10.0.0.3", "10.0.0.3"),
        ("198.51.100.1,", "10.0.0.2"),
        ("", "10.0.0.2"),
        (None, "10.0.0.2"),
        ("10.0.0.9", "10.0.0.9"),
    ],
)
def test_behind_trusted_proxies_it_is_the_last_that_no_proxy_has(forwarded: str | None, found: str) -> None:
    assert address("10.0.0.2", forwarded, proxies=["10.0.0.0/8"]) == found
    assert address("::ffff:10.0.0.2", forwarded, proxies=["10.0.0.0/8"]) == found


@pytest.mark.parametrize(
    ("remote", "block"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::"),
        ("", ""),
    ],
)
def test_addresses_that_one_client_has_count_as_one(remote: str, block: str) -> None:
    assert client_block(RequestFactory().get("/", REMOTE_ADDR=remote)) == block
