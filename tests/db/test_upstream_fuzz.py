"""Whatever another server sends, however it is cut: an answer or an UpstreamError, which can be stored and sent.

``FUZZ_EXAMPLES=100000`` tries more of it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from inference.api.rendering import DONE, ChunkRenderer, encode_completion
from inference.backends.upstream.call import AnswerSoFar, Call
from inference.backends.upstream.errors import UpstreamError
from inference.backends.upstream.refused_formats import RefusedFormats
from inference.backends.upstream.relay import Relay
from inference.backends.upstream.target import Target
from inference.engine.handle import Handle
from inference.engine.types import Delta, Finish
from inference.worker.chunk_writer import ChunkWriter
from sessions_app.answer import read_answer
from sessions_app.deltas import START
from sessions_app.models import ChatSession, Chunk
from sessions_app.store import appending
from sessions_app.store.appending import Closing
from sessions_app.wakeups import StreamChunk

pytestmark = pytest.mark.django_db

often = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "150")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)

TEXTS = st.text(
    st.one_of(st.characters(exclude_categories=()), st.sampled_from("\0\ud83d\ude00\r\n\u2028é😀")), max_size=8
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXTS, st.sampled_from([2**31 - 1, 2**63, 10**400, -1, 0])
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=5,
)


def shaped(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with some of these members, as a rule of the right shape."""
    return st.one_of(st.fixed_dictionaries({}, optional=members), ANYTHING)


def usually(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(strategy, strategy, strategy, ANYTHING)


TOKENS = shaped(
    token=usually(TEXTS),
    logprob=usually(st.floats()),
    bytes=usually(st.lists(st.integers(-1, 256), max_size=3)),
    top_logprobs=usually(st.lists(shaped(token=TEXTS, logprob=st.floats(), bytes=ANYTHING), max_size=3)),
)
COUNTS = usually(st.integers(-1, 2**33))
CHUNKS = shaped(
    choices=usually(
        st.lists(
            shaped(
                index=usually(st.integers(0, 1)),
                delta=shaped(
                    content=usually(TEXTS),
                    reasoning=usually(TEXTS),
                    reasoning_content=usually(TEXTS),
                    refusal=usually(TEXTS),
                    role=ANYTHING,
                    tool_calls=ANYTHING,
                ),
                logprobs=shaped(content=usually(st.lists(TOKENS, max_size=2)), refusal=ANYTHING),
                finish_reason=usually(st.sampled_from([None, "stop", "length", "content_filter", "tool_calls"])),
            ),
            max_size=2,
        )
    ),
    usage=shaped(
        prompt_tokens=COUNTS, completion_tokens=COUNTS, completion_tokens_details=shaped(reasoning_tokens=COUNTS)
    ),
    error=st.one_of(st.none(), st.none(), ANYTHING, shaped(message=ANYTHING, code=ANYTHING, type=ANYTHING)),
    session_state=st.one_of(st.none(), ANYTHING),
    object=st.one_of(st.just("chat.completion.chunk"), ANYTHING),
)
LINES = st.one_of(
    CHUNKS.map(lambda chunk: b"data: " + json.dumps(chunk).encode()),
    CHUNKS.map(lambda chunk: b"data:" + json.dumps(chunk, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    CHUNKS.map(lambda chunk: b"data: " + json.dumps(chunk, indent=1).encode().replace(b"\n", b"\ndata: ")),
    st.sampled_from(
        [b"data: [DONE]", b"data:[DONE] ", b"data:", b"data", b": ka", b"event: error", b"retry: 5", b"id"]
    ),
    st.sampled_from([b"id: up-1:5", b"id: \0", b"id: \xc3\xa9:1", b"id: up-1:99999999999", b"\xef\xbb\xbfdata: {}"]),
    st.binary(max_size=12),
)
ENDS = st.sampled_from([b"\n\n", b"\n\n", b"\r\n\r\n", b"\r\r", b"\n", b"\r\n", b""])
STREAMS = st.lists(st.tuples(LINES, ENDS), max_size=6).map(
    lambda lines: b"".join(part for line in lines for part in line)
)


class Body(httpx.AsyncByteStream):
    """These bytes, cut at these places."""

    def __init__(self, body: bytes, cuts: Sequence[int]) -> None:
        places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
        self._pieces = [body[start:end] for start, end in zip(places, [*places[1:], len(body)], strict=True)]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(autouse=True)
def no_second_try(settings: Any) -> None:
    settings.UPSTREAM_RETRY_SECONDS = 0.0
    settings.UPSTREAM_MAX_EVENT_BYTES = 20_000
    # What is logged of each is not looked at, and there is much of it.
    logging.getLogger("inference.backends.upstream").setLevel(logging.ERROR)


async def relayed(responses: list[httpx.Response], *, resume: Any = "none") -> list[Delta | Finish | UpstreamError]:
    """What comes out of the handle of one answer for these responses."""
    call = Call("up-1", "", Target("m", resume), [], {"max_tokens": 100, "logprobs": True, "top_logprobs": 1})
    handle = Handle(lambda handle: None)

    def answer(request: httpx.Request) -> httpx.Response:
        return responses.pop(0)

    async with httpx.AsyncClient(base_url="http://upstream/v1/", transport=httpx.MockTransport(answer)) as client:
        await Relay(client, call, AnswerSoFar(), handle, RefusedFormats()).run()
    items: list[Any] = []
    try:
        items += handle
    except UpstreamError as exc:
        assert "could not be read" not in exc.message, "an exception that nobody foresaw"
        items.append(exc)
    return items


def stream(body: bytes, cuts: Sequence[int] = ()) -> httpx.Response:
    return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=Body(body, cuts))


def stored(items: Sequence[Delta | Finish | UpstreamError]) -> ChatSession:
    """A session of these, committed as a worker commits it."""
    *deltas, end = items
    session = ChatSession.objects.create(model="m", request={}, state="running", attempt=1, next_index=1)
    Chunk.objects.create(session=session, index=0, delta=START)
    run = ChunkWriter().open(session.pk, 1, 1)
    for delta in deltas:
        assert isinstance(delta, Delta)
        run.add(delta)
        if (append := run.take(0.0)) is not None:
            assert not appending.append([append])
            run.committed(append, 0.0)
    if isinstance(end, Finish):
        counts = (end.prompt_tokens, end.completion_tokens, end.reasoning_tokens)
        run.close(Closing(end.reason, (), *counts))
    else:
        assert isinstance(end, UpstreamError)
        run.close(Closing(error=end.as_dict(), error_status=end.status))
    append = run.take(0.0)
    assert append is not None
    assert not appending.append([append])
    session.refresh_from_db()
    return session


def check_that_it_can_be_sent(session: ChatSession) -> None:
    render = ChunkRenderer(session, include_usage=True)
    rows = Chunk.objects.after(session.pk, -1).values_list("index", "delta")
    data = [render(StreamChunk(index, delta)) for index, delta in rows]
    assert all(event is not None for event in data)
    for event in data[:-1]:
        json.loads(str(event).encode(), parse_constant=pytest.fail)
    assert data[-1] == DONE or "error" in json.loads(str(data[-1]))
    if session.error is None:
        json.loads(encode_completion(session, read_answer(session.pk)), parse_constant=pytest.fail)


@often
@given(body=STREAMS, cuts=st.lists(st.integers(0, 5000), max_size=8), resume=st.sampled_from(["none", "session"]))
@example(body=b"data: " + b"[" * 10_000 + b"\n\n", cuts=[], resume="none")
def test_any_stream_is_an_answer_or_an_error_that_can_be_stored_and_sent(
    loop: asyncio.Runner, body: bytes, cuts: list[int], resume: str
) -> None:
    check_that_it_can_be_sent(stored(loop.run(relayed([stream(body, cuts)], resume=resume))))


@often
@given(text=st.text(max_size=30), cuts=st.lists(st.integers(0, 5000), max_size=8), places=st.lists(st.integers(0, 60)))
def test_text_comes_out_whole_however_it_is_cut(
    loop: asyncio.Runner, text: str, cuts: list[int], places: list[int]
) -> None:
    text = text.replace("\0", "")
    units = text.encode("utf-16-le")
    ends = sorted({0, len(units), *(2 * (place % (len(units) // 2 + 1)) for place in places)})
    pieces = [
        units[a:b].decode("utf-16-le", "surrogatepass") for a, b in zip(ends, [*ends[1:], len(units)], strict=True)
    ]
    body = "".join(f"data: {json.dumps({'choices': [{'delta': {'content': piece}}]})}\n\n" for piece in pieces)
    body += f"data: {DONE}\n\n"
    session = stored(loop.run(relayed([stream(body.encode(), cuts)])))
    check_that_it_can_be_sent(session)
    assert read_answer(session.pk).text == text


@often
@given(
    status=st.sampled_from([400, 401, 404, 413, 422, 429, 500, 503, 302, 204]),
    body=st.one_of(ANYTHING.map(lambda value: json.dumps(value).encode()), st.binary(max_size=50)),
    cuts=st.lists(st.integers(0, 50), max_size=3),
)
def test_any_refusal_is_an_error_that_can_be_stored_and_sent(
    loop: asyncio.Runner, status: int, body: bytes, cuts: list[int]
) -> None:
    session = stored(loop.run(relayed([httpx.Response(status, stream=Body(body, cuts))])))
    assert session.state == ChatSession.State.FAILED
    check_that_it_can_be_sent(session)
