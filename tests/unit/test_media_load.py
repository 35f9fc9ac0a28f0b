"""Loading a request's media: original bytes back, checked by decoding, with the event loop left free."""

from __future__ import annotations

import asyncio
import base64
import hashlib

import pytest
from django.test import override_settings

from inference.errors import InvalidMedia
from inference.media.load import check, load_all
from inference.media.parts import MediaKind, MediaSource, parse_messages
from inference.media.threads import in_thread
from tests.media_samples import image_bytes, video_bytes


def source(kind: MediaKind, data: bytes, n: int = 0) -> MediaSource:
    return MediaSource(kind, f"messages[0].content[{n}]", base64.b64encode(data).decode(), "base64")


def test_a_request_with_an_image_and_a_video_is_loaded() -> None:
    image, video = image_bytes((40, 30), format="JPEG"), video_bytes()
    parsed = parse_messages(
        [
            {
                "role": "user",
                "content": [
                    {"type": "input_video", "b64_json": base64.b64encode(video).decode()},
                    {"type": "text", "text": "?"},
                    {
                        "type": "image_url",
                        # What the sender calls it does not matter.
                        "image_url": {"url": "data:image/png;base64," + base64.b64encode(image).decode()},
                    },
                ],
            }
        ]
    )
    first, second = asyncio.run(load_all(parsed.sources))
    assert (first.kind, first.param, first.content_type) == ("video", "messages[0].content[0]", "video/mp4")
    assert (first.width, first.height, first.frames) == (64, 48, 4)
    assert (second.kind, second.param, second.content_type) == ("image", "messages[0].content[2]", "image/jpeg")
    assert (second.width, second.height, second.frames) == (40, 30, 1)
    # The muxer's name is no part of the film.
    assert len(first.data) == len(video)
    assert second.data == image
    assert second.sha256 == hashlib.sha256(image).hexdigest()
    assert "data=" not in repr(first)


def test_media_that_arrive_whole_but_cannot_be_decoded_are_refused_with_their_part() -> None:
    good, bad = source("image", image_bytes(), 0), source("image", b"no image at all", 1)
    with pytest.raises(InvalidMedia) as caught:
        asyncio.run(load_all([good, bad]))
    assert caught.value.param == "messages[0].content[1]"


def test_an_image_is_no_video_and_a_video_no_image() -> None:
    with pytest.raises(InvalidMedia, match="not a video"):
        asyncio.run(load_all([source("video", image_bytes())]))
    with pytest.raises(InvalidMedia, match="not an image"):
        asyncio.run(load_all([source("image", video_bytes())]))


def test_an_upload_is_checked_under_the_name_of_its_field() -> None:
    assert asyncio.run(check("image", image_bytes((5, 7)), param="image")).height == 7
    with override_settings(MAX_IMAGE_BYTES=10), pytest.raises(InvalidMedia) as caught:
        asyncio.run(check("image", image_bytes(), param="image"))
    assert caught.value.param == "image"


def test_no_sources_need_no_thread_and_give_nothing() -> None:
    assert asyncio.run(load_all([])) == []


def test_the_event_loop_goes_on_while_a_thread_works() -> None:
    async def both() -> bool:
        import threading

        released = threading.Event()
        work = asyncio.create_task(in_thread(released.wait, 10))
        await asyncio.sleep(0)
        # Only a loop that is not held up by the waiting thread comes to release it.
        released.set()
        return await work

    assert asyncio.run(both())
