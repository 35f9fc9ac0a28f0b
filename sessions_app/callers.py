"""The caller as a short text that is stored with a session. Turns and per-caller limits use it.

The text names a key by its HMAC, so the database and the admin do not reveal keys.
"""

from __future__ import annotations

from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils.crypto import salted_hmac

from sessions_app.client_address import client_block

#: digits kept of the HMAC; enough to distinguish the keys of a server
KEY_DIGITS = 12


def caller_with_key(key: str) -> str:
    """The caller who sent this API key. The same on every process with the same ``SECRET_KEY``."""
    return f"key:{salted_hmac('sessions_app.callers', key, algorithm='sha256').hexdigest()[:KEY_DIGITS]}"


def caller_at_address(request: HttpRequest) -> str:
    """The caller at the address that the request came from; requests without a known address are one caller."""
    return f"address:{client_block(request) or 'unknown'}"


def caller_of_user(user: User) -> str:
    """The caller for a logged-in user."""
    return f"user:{user.pk}"


def is_of_a_key(caller: str) -> bool:
    """Whether ``caller_with_key`` wrote it."""
    return caller.startswith("key:")
