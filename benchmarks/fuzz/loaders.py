"""The loaders that read untrusted bytes: one function each, and what it may do with them.

``read`` returns whether the input was accepted. A refusal of the kind that the API turns into an answer is no finding;
whatever else is raised is, and so is an accepted value that cannot be used.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
# An upstream that breaks off is not asked again.
os.environ.setdefault("UPSTREAM_RETRY_SECONDS", "0")
django.setup()

import httpx  # noqa: E402  (what follows needs the settings)

from benchmarks.fuzz import samples  # noqa: E402
from inference.backends.upstream.call import AnswerSoFar, Call  # noqa: E402
from inference.backends.upstream.errors import UpstreamError  # noqa: E402
from inference.backends.upstream.refused_formats import RefusedFormats  # noqa: E402
from inference.backends.upstream.relay import Relay  # noqa: E402
from inference.backends.upstream.target import Target  # noqa: E402
from inference.engine.handle import Handle  # noqa: E402
from inference.engine.types import Delta, Likelihood  # noqa: E402
from inference.errors import InvalidMedia  # noqa: E402
from inference.media.film import video_content_type  # noqa: E402
from inference.media.images import decode_image, image_content_type  # noqa: E402
from inference.media.inline import decode_data_url  # noqa: E402
from inference.media.limits import media_limits  # noqa: E402
from inference.media.videos import sample_video  # noqa: E402
from ocr.reading.judging import judge_answer  # noqa: E402

PARAM = "messages[0].content[0]"
#: an upstream's stream comes in parts of this many bytes, which cut lines and characters anywhere
PART_BYTES = 61


class Unusable(Exception):
    """An accepted value that the code after the loader cannot use."""


@dataclass(frozen=True, slots=True)
class Loader:
    name: str
    samples: Callable[[], Sequence[bytes]]
    read: Callable[[bytes], bool]
    #: what a mutation may put in, beside bytes
    tokens: Sequence[bytes] = ()


def read_image(data: bytes) -> bool:
    try:
        image = decode_image(data, media_limits(), PARAM)
        image_content_type(data, param=PARAM)
    except InvalidMedia:
        return False
    if image.mode != "RGB" or min(image.size) < 1:
        raise Unusable(f"a picture of mode {image.mode} and size {image.size}")
    return True


def read_video(data: bytes) -> bool:
    try:
        video = sample_video(data, media_limits(), PARAM)
        video_content_type(data, param=PARAM)
    except InvalidMedia:
        return False
    times = video.timestamps_seconds
    if video.frames.ndim != 4 or len(times) != len(video.frames) or not all(map(math.isfinite, times)):
        raise Unusable(f"a video of shape {video.frames.shape} with the times {times}")
    return True


def read_data_url(data: bytes) -> bool:
    try:
        # As in JSON, halves of surrogate pairs may be among the characters.
        decoded = decode_data_url(data.decode("utf-8", "surrogateescape"), limit=1 << 20, param=PARAM)
    except InvalidMedia:
        return False
    if not 0 < len(decoded) <= 1 << 20:
        raise Unusable(f"{len(decoded)} bytes")
    return True


def read_upstream_stream(data: bytes) -> bool:
    """The whole relay of one answer, fed by a transport that has the stream already."""
    unforeseen: list[BaseException] = []
    log = logging.getLogger("inference.backends.upstream.relay")
    handler = _KeepsErrors(unforeseen)
    log.addHandler(handler)
    try:
        deltas, ended_well = _RUNNER.run(_relay(data))
    finally:
        log.removeHandler(handler)
    if unforeseen:
        # The relay answers it with an error without details: the answer is lost in this case too.
        raise unforeseen[0]
    for delta in deltas:
        _check_delta(delta)
    return ended_well


def read_ktp_answer(data: bytes) -> bool:
    text = data.decode("utf-8", "surrogateescape")
    reading = judge_answer(text, finish_reason="length" if len(data) % 2 else "stop")
    for path, value in reading.values.items():
        _check_text(value, path)
    for problem in reading.problems:
        _check_text(json.dumps([str(problem)]), "a problem")
    return any(reading.values.values())


_RUNNER = asyncio.Runner()


async def _relay(data: bytes) -> tuple[list[Delta], bool]:
    """What was delivered, and whether the answer was taken to its end."""

    async def parts() -> AsyncIterator[bytes]:
        for at in range(0, len(data), PART_BYTES):
            yield data[at : at + PART_BYTES]

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=parts())

    call = Call("up-1", "req-1", Target("m", "none"), [{"role": "user", "content": "Halo"}], {"max_tokens": 1000})
    handle = Handle(lambda handle: None)
    async with httpx.AsyncClient(base_url="http://upstream/v1/", transport=httpx.MockTransport(answer)) as client:
        await Relay(client, call, AnswerSoFar(), handle, RefusedFormats()).run()
    deltas: list[Delta] = []
    try:
        deltas.extend(item for item in handle if isinstance(item, Delta))
    except UpstreamError:
        return deltas, False
    return deltas, True


class _KeepsErrors(logging.Handler):
    def __init__(self, errors: list[BaseException]) -> None:
        super().__init__()
        self._errors = errors

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self._errors.append(record.exc_info[1])


def _check_delta(delta: Delta) -> None:
    _check_text(delta.text, "text")
    _check_text(delta.reasoning, "reasoning")
    for token in delta.logprobs:
        for likelihood in (token.chosen, *token.top):
            _check_likelihood(likelihood)


def _check_likelihood(likelihood: Likelihood) -> None:
    _check_text(likelihood.token, "a token's name")
    if not math.isfinite(likelihood.logprob):
        raise Unusable("a log probability that is no number, which JSON does not have")


def _check_text(text: object, where: str) -> None:
    if not isinstance(text, str):
        raise Unusable(f"{where} is of type {type(text).__name__}")
    if "\0" in text:
        raise Unusable(f"NUL in {where}, which PostgreSQL does not store")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise Unusable(f"half of a surrogate pair in {where}, which cannot be sent")


LOADERS = {
    loader.name: loader
    for loader in (
        Loader("image", samples.images, read_image),
        Loader("video", samples.videos, read_video),
        Loader("data-url", samples.data_urls, read_data_url, samples.URL_TOKENS),
        Loader("upstream", samples.upstream_streams, read_upstream_stream, samples.JSON_TOKENS),
        Loader("ktp-answer", samples.ktp_answers, read_ktp_answer, samples.JSON_TOKENS),
    )
}
