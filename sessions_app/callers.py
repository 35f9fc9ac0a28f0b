"""Who asks, as a short text that is stored with a session: by it callers take turns, and limits for each are counted.

The text names a key by its HMAC: whoever reads the database or the admin learns no key.
"""

from __future__ import annotations

from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils.crypto import salted_hmac

from sessions_app.client_address import client_block

#: of the HMAC; enough to tell the keys of a server apart
KEY_DIGITS = 12


def caller_with_key(key: str) -> str:
    """The caller who sent this API key. The same on every process with the same ``SECRET_KEY``."""
    return f"key:{salted_hmac('sessions_app.callers', key, algorithm='sha256').hexdigest()[:KEY_DIGITS]}"


def caller_at_address(request: HttpRequest) -> str:
    """The caller behind the address that the request came from; all of whom no address is known are one."""
    return f"address:{client_block(request) or 'unknown'}"


def caller_of_user(user: User) -> str:
    """The caller who is logged in."""
    return f"user:{user.pk}"


def is_of_a_user(caller: str) -> bool:
    """Whether ``caller_of_user`` wrote it."""
    return caller.startswith("user:")
