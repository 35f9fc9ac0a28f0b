"""Bearer keys from ``API_KEYS``. Without any the API is open, which is only suitable for a laptop."""

from __future__ import annotations

import functools
import hmac

from django.conf import settings
from django.http import HttpRequest
from ninja.security import HttpBearer

from inference.api.key_failures import KeyFailures
from inference.errors import Unauthorized
from sessions_app.callers import caller_at_address, caller_with_key
from sessions_app.client_address import client_block


class ApiKey(HttpBearer):
    """For ninja's ``auth``: the Authorize button of ``/docs``, and the check. It returns the caller: ``request.auth``.

    Raises ``Unauthorized``, and ``TooManyRequests`` for too many wrong keys. A right key is always accepted.
    """

    openapi_description = "One of the server's `API_KEYS`. If none is set, any key is accepted, and none is needed."

    async def __call__(self, request: HttpRequest) -> str:
        if not settings.API_KEYS:
            return caller_at_address(request)
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and await self.authenticate(request, key := given.strip()):
            return caller_with_key(key)
        if given:
            failures().count(client_block(request))
        raise Unauthorized(
            "This server needs an API key: send it as `Authorization: Bearer KEY`.",
            headers={"WWW-Authenticate": "Bearer"},
        )

    async def authenticate(self, request: HttpRequest, token: str) -> bool:
        """Compare all keys, each in constant time."""
        matches = [hmac.compare_digest(token.encode(), key.encode()) for key in settings.API_KEYS]
        return any(matches)


def caller_of(request: HttpRequest) -> str:
    """The caller of an authenticated request."""
    caller: str = request.auth  # type: ignore[attr-defined]  # ninja puts it there
    return caller


@functools.cache
def failures() -> KeyFailures:
    """The failure counts of this process."""
    return KeyFailures(tries=settings.API_KEY_MAX_FAILURES, seconds=settings.API_KEY_FAILURES_SECONDS)
