"""Who asks, in a form that may be stored and shown."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import RequestFactory, override_settings

from sessions_app import shares
from sessions_app.callers import caller_at_address, caller_of_user, caller_with_key

KEY = "key-of-alice-93f1c0d2a7"


def test_a_key_is_named_by_what_nobody_without_the_secret_can_compute() -> None:
    named = caller_with_key(KEY)
    assert caller_with_key(KEY) == named
    assert caller_with_key(f"{KEY}b") != named
    assert KEY not in named
    with override_settings(SECRET_KEY="another"):
        assert caller_with_key(KEY) != named


@pytest.mark.parametrize(
    ("remote", "caller"),
    [
        ("203.0.113.7", "address:203.0.113.7"),
        # All addresses of a customer are one caller.
        ("2001:db8:1:2:3:4:5:6", "address:2001:db8:1:2::"),
        ("", "address:unknown"),
    ],
)
def test_without_a_key_the_address_is_the_caller(remote: str, caller: str) -> None:
    assert caller_at_address(RequestFactory().get("/", REMOTE_ADDR=remote)) == caller


def test_every_caller_fits_its_column() -> None:
    longest = RequestFactory().get("/", REMOTE_ADDR="2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")
    for caller in (caller_with_key("k" * 10_000), caller_at_address(longest), caller_of_user(User(pk=2**63 - 1))):
        assert len(caller) <= 64


@pytest.mark.parametrize(
    ("in_use", "fixed", "most"), [(0, 0, 10), (5, 0, 5), (9, 0, 1), (10, 0, 1), (12, 0, 1), (9, 4, 4), (0, 99, 99)]
)
def test_a_share_is_what_is_free_unless_a_number_is_fixed(in_use: int, fixed: int, most: int) -> None:
    assert shares.caller_limit(10, in_use=in_use, fixed=fixed) == most
