"""The body of a response that is no stream, as far as it is worth reading."""

from __future__ import annotations

import httpx

#: an error's words or a list of models are shorter
MOST_BYTES = 1024 * 1024


async def read_body(response: httpx.Response) -> bytes:
    """The body, or nothing when it is longer than ``MOST_BYTES``. Raises httpx.HTTPError."""
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MOST_BYTES:
            return b""
    return bytes(body)
