"""``Idempotency-Key``: a caller's own name for a request, under which the same request does nothing a second time."""

from __future__ import annotations

from django.utils.crypto import salted_hmac

from inference.errors import InvalidRequest

HEADER = "Idempotency-Key"
MAX_KEY_CHARS = 255
#: digits kept of the HMAC; enough that two keys never share a name
NAME_DIGITS = 48


def name_of_key(key: str | None, caller: str, purpose: str) -> str | None:
    """What the key names for this caller, among the requests of one ``purpose``; None without a key.

    It is an HMAC: a key may be easy to guess, and two callers may use the same one, while the name of a session is
    enough to read it. Raises ``InvalidRequest``.
    """
    if not key:
        return None
    if len(key) > MAX_KEY_CHARS:
        raise InvalidRequest(f"{HEADER} is longer than {MAX_KEY_CHARS} characters.", param=HEADER)
    return salted_hmac(purpose, f"{caller}\n{key}", algorithm="sha256").hexdigest()[:NAME_DIGITS]
