"""Reads the body of a response that is not a stream, up to a limit."""

from __future__ import annotations

import httpx

#: maximum size of a body; error messages and lists of models are smaller
MAX_BYTES = 1024 * 1024


async def read_body(response: httpx.Response) -> bytes:
    """The body; empty when it is larger than ``MAX_BYTES``. Raises httpx.HTTPError."""
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_BYTES:
            return b""
    return bytes(body)
