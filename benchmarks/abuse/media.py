"""Pictures, videos and cards that cost more than they look, and media servers with bad manners."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benchmarks.abuse import files
from benchmarks.abuse.media_host import DEAD_SUFFIX, MediaHost
from benchmarks.loop.bodies import KTP, MULTIPART, Pieces, multipart, part, request
from benchmarks.loop.hostile import EITHER, REFUSED, Hostile

#: longer than the goal, so that an answer that misses it still gets a figure
PATIENCE = 60.0
MakeFile = Callable[[], bytes]


def _chat(*parts: dict[str, Any]) -> Pieces:
    content = [*parts, {"type": "text", "text": "Apa ini?"}]
    return request([json.dumps({"messages": [{"role": "user", "content": content}], "max_tokens": 4}).encode()])


def _media(kind: str, make: MakeFile, count: int) -> Pieces:
    """A chat with the same file several times."""
    encoded = base64.b64encode(make()).decode()
    if kind == "video":
        return _chat(*[{"type": "input_video", "b64_json": encoded}] * count)
    url = {"url": f"data:image/x;base64,{encoded}"}
    return _chat(*[{"type": "image_url", "image_url": url}] * count)


def _urls(*urls: str) -> Pieces:
    return _chat(*({"type": "image_url", "image_url": {"url": url}} for url in urls))


def _hosted(manners: str, count: int) -> Pieces:
    host = MediaHost()
    return _urls(*(host.url(f"/{manners}/{number}.png") for number in range(count)))


def _card(make: MakeFile) -> Pieces:
    return request(multipart(part([make()])), path=KTP, kind=MULTIPART)


def _pictures(name: str, what: str, make: MakeFile, count: int = 1, **options: Any) -> Hostile:
    return _hostile(name, what, partial(_media, "image", make, count), **options)


def _videos(name: str, what: str, make: MakeFile, count: int = 1, **options: Any) -> Hostile:
    return _hostile(name, what, partial(_media, "video", make, count), **options)


def _hostile(
    name: str, what: str, make: Callable[[], Pieces], *, expect: frozenset[int] = EITHER, connections: int = 1
) -> Hostile:
    return Hostile(name, what, make, expect, connections=connections, patience=PATIENCE)


def pictures() -> Iterator[Hostile]:
    yield _pictures("webp-16", "16 WebPs of 50 megapixels in one chat", files.webp_50mp, 16, expect=REFUSED)
    yield _pictures("webp-4x4", "4 of them in each of 4 chats", files.webp_50mp, 4, connections=4)
    yield _pictures(
        "tiff-float-4", "4 chats with a TIFF of 81 megapixels of fractions", files.float_tiff, connections=4
    )
    yield _pictures(
        "jpeg-scans-2", "2 chats with a JPEG of 1,000 scans", files.scans_jpeg, connections=2, expect=REFUSED
    )
    yield _pictures(
        "jpeg-99-scans-8",
        "8 chats with a JPEG of as many scans as are allowed",
        partial(files.scans_jpeg, 90, (2000, 1500)),
        connections=8,
    )
    yield _pictures(
        "jpeg-200mp-4",
        "4 chats with a JPEG of 200 megapixels",
        partial(files.plain, (16320, 12240), "JPEG", "L"),
        connections=4,
    )
    yield _pictures(
        "png-50mp-4x4", "4 PNGs of 50 megapixels in each of 4 chats", partial(files.plain, (8165, 6124), "PNG"), 4,
        connections=4,
    )  # fmt: skip
    yield _pictures(
        "gif-50mp-8", "8 chats with a GIF of 50 megapixels", partial(files.plain, (8165, 6124), "GIF"), connections=8
    )
    yield _pictures("tiff-lzw-4", "4 chats with a TIFF of 48 megapixels in LZW", files.lzw_tiff, connections=4)
    yield _pictures("png-text-8", "8 chats with a PNG whose text unfolds to 100 MB", files.text_png, connections=8)
    yield _pictures("photos-16", "16 chats with a photograph of 12 megapixels", files.photo, connections=16)


def videos() -> Iterator[Hostile]:
    yield _videos("mov-scans", "a MOV of two JPEGs of 1,000 scans", partial(files.scans_movie, "mov"), expect=REFUSED)
    yield _videos("mkv-scans-4", "4 chats with such an MKV", partial(files.scans_movie, "matroska"), connections=4)
    yield _videos("mp4-samples", "an MP4 that claims 80 million frames", files.many_samples, expect=REFUSED)
    yield _videos("mp4-sound-samples", "an MP4 that claims 80 million pieces of sound", files.many_sound_samples)
    yield _videos("mp4-fragment", "an MP4 one of whose fragments claims 80 million frames", files.many_fragment_samples)
    yield _videos("mp4-boxes", "an MP4 of two million boxes", files.many_boxes, expect=REFUSED)
    yield _videos("mp4-4k-4", "4 chats with a minute of 4K with one key frame", files.large_frames, connections=4)
    yield _videos("mkv-packets-4", "4 chats with an MKV of 20,000 frames", files.many_packets, connections=4)


def hosts() -> Iterator[Hostile]:
    """Each from several connections, as many media a chat as are fetched at once."""
    for manners, what in {
        "drip": "that send a byte at a time",
        "silent": "that never answer",
        "slow-head": "whose head never ends",
        "endless": "that send 200 MB of no declared length",
        "around": "that redirect to themselves",
    }.items():
        yield Hostile(
            f"media-{manners}",
            f"2 chats with 4 URLs each of servers {what}",
            partial(_hosted, manners, 4),
            REFUSED,
            connections=2,
            patience=PATIENCE,
        )
    yield Hostile(
        "names-dead-8",
        "a chat with 8 URLs whose names never resolve",
        lambda: _urls(*(f"http://n{number}{DEAD_SUFFIX}/a.png" for number in range(8))),
        REFUSED,
        patience=PATIENCE,
    )
    yield Hostile(
        "names-dead-10x16",
        "10 chats with 16 of them each",
        lambda: _urls(*(f"http://n{number}{DEAD_SUFFIX}/a.png" for number in range(16))),
        REFUSED,
        connections=10,
        patience=PATIENCE,
    )


def cards() -> Iterator[Hostile]:
    """The same pictures as cards, four at once."""
    makers: dict[str, tuple[str, MakeFile]] = {
        "webp": ("a WebP of 50 megapixels", files.webp_50mp),
        "tiff-float": ("a TIFF of 81 megapixels of fractions", files.float_tiff),
        "scans": ("a JPEG of 1,000 scans", files.scans_jpeg),
        "jpeg-200mp": ("a JPEG of 200 megapixels", partial(files.plain, (16320, 12240), "JPEG", "L")),
        "png-text": ("a PNG whose text unfolds to 100 MB", files.text_png),
    }
    for name, (what, make) in makers.items():
        yield Hostile(
            f"ktp-{name}-4", f"4 cards, each {what}", partial(_card, make), EITHER, connections=4, patience=PATIENCE
        )
