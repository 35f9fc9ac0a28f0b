"""Neighbours with small requests: a chat, a chat about a picture behind a URL, the reading of a card.

A process of its own, with a key and an address of its own. It prints ``ready``, takes a line with the seconds after
which it asks, and answers with a line of JSON, until its input ends:

    python -m benchmarks.abuse.neighbours PORT
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from typing import Any

import httpx

from benchmarks.abuse.media_host import MediaHost
from benchmarks.loop.bodies import CHAT, KTP, NEIGHBOUR_KEY
from tests.media_samples import image_bytes

ADDRESS = "127.0.0.2"
MAX_SECONDS = 100.0
PICTURE = image_bytes((320, 200), color="teal")


def chat(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 4, "temperature": 0}


async def ask(client: httpx.AsyncClient, path: str, **body: Any) -> tuple[int, float]:
    """Status (0 without an answer) and seconds."""
    started = time.monotonic()
    status = 0
    with contextlib.suppress(httpx.HTTPError):
        status = (await client.post(path, **body)).status_code
    return status, time.monotonic() - started


async def ask_all(port: int, picture_url: str) -> dict[str, tuple[int, float]]:
    about_picture = [{"type": "image_url", "image_url": {"url": picture_url}}, {"type": "text", "text": "Apa ini?"}]
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}",
        headers={"Authorization": f"Bearer {NEIGHBOUR_KEY}"},
        timeout=MAX_SECONDS,
        transport=httpx.AsyncHTTPTransport(local_address=ADDRESS),
    ) as client:
        answers = await asyncio.gather(
            ask(client, CHAT, json=chat("Halo")),
            ask(client, CHAT, json=chat(about_picture)),
            ask(client, KTP, files={"image": ("ktp.png", PICTURE)}),
        )
    return dict(zip(("chat", "url", "ktp"), answers, strict=True))


def main(port: str) -> None:
    host = MediaHost({"/picture.png": PICTURE})
    # By name, so that a request that waits for a name server is measured too.
    picture_url = f"http://localhost:{host.port}/picture.png"
    print("ready", flush=True)
    for line in sys.stdin:
        time.sleep(float(line))
        print(json.dumps(asyncio.run(ask_all(int(port), picture_url))), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
