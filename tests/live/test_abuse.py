"""What a greedy caller sends is answered in bounded memory. The full set, by the clock, is ``benchmarks.abuse``."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.abuse.__main__ import AbusedStack
from benchmarks.abuse.catalogue import named
from benchmarks.loop.bodies import KEY, KTP
from benchmarks.loop.sender import send
from benchmarks.loop.stack import Memory
from tests.live.events import QUESTION, read_stream
from tests.media_samples import image_bytes

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="this system does not tell shared memory apart"
)

ABUSIVE = [
    "webp-16",
    "tiff-float-4",
    "jpeg-scans-2",
    "png-text-8",
    "mov-scans",
    "mp4-samples",
    "media-around",
    "ktp-scans-4",
    "messages-500k",
    "listeners-come-and-go",
]
#: what the benchmark allows
MAX_MB = 512
PICTURE = image_bytes((64, 64))


@pytest.fixture(scope="module")
def abused(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AbusedStack]:
    stack = AbusedStack(tmp_path_factory.mktemp("abused"), tiny_model, API_KEYS=KEY, FED_SESSIONS=1)
    try:
        stack.start()
        ask_for_little(stack)
        yield stack
    finally:
        stack.stop()


def ask_for_little(stack: AbusedStack) -> None:
    """A chat, a chat about a picture, and the reading of a card: all are answered."""
    url = {"url": f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"}
    content = [{"type": "image_url", "image_url": url}, {"type": "text", "text": "Apa ini?"}]
    with stack.client(headers={"Authorization": f"Bearer {KEY}"}) as http:
        for question in (QUESTION, QUESTION | {"messages": [{"role": "user", "content": content}]}):
            assert read_stream(http, question)[-1].data == "[DONE]"
        assert http.post(KTP, files={"image": ("a.png", PICTURE)}).status_code == 200


@pytest.mark.parametrize("name", ABUSIVE)
def test_an_abusive_request_is_answered_in_bounded_memory(abused: AbusedStack, name: str) -> None:
    abusive = named(name)
    pieces = list(abusive.make())
    with Memory(abused, kind="pss") as memory:
        before = memory.forget_peak()
        outcomes = asyncio.run(send(abused.port, abusive, pieces))
        assert memory.peak_mb - before < MAX_MB
    # Several at once may wait too long for their turn on a slow machine, and are told that the server is busy.
    busy = {503} if abusive.connections > 1 else set()
    assert {status for outcome in outcomes for status in outcome.statuses} <= abusive.expect | busy
    ask_for_little(abused)
