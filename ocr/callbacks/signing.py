"""The signature of a callback, by which its receiver knows that this server sent it, and when."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

HEADER = "Sambung-Signature"


def signature(body: bytes, *, at: int, secrets: Sequence[str]) -> str:
    """``t=1700000000,v1=…``: the time in seconds, and an HMAC-SHA256 of ``t.body`` with each secret.

    There are two while a secret is replaced: the receiver accepts the callback if one of them is right.
    Raises ValueError without a secret: nothing is sent unsigned.
    """
    if not secrets:
        raise ValueError("A callback cannot be signed without a secret.")
    said = f"{at}.".encode() + body
    digests = [hmac.new(secret.encode(), said, hashlib.sha256).hexdigest() for secret in secrets]
    return ",".join([f"t={at}", *(f"v1={digest}" for digest in digests)])
