"""Bodies of the API: read as they were sent, whatever the pieces, and refused over a limit before they are made."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from inference.api.json_body import MIN_INLINE_BYTES, read_json
from inference.errors import ApiError, TooLarge
from inference.media.inline import InlineText

LONG = "A" * MIN_INLINE_BYTES


def in_pieces(body: bytes, size: int) -> Iterator[bytes]:
    return (body[at : at + size] for at in range(0, len(body), size))


def as_text(value: Any) -> Any:
    """``value`` with the long texts as texts."""
    match value:
        case InlineText():
            return b"".join(value.pieces).decode()
        case dict():
            return {key: as_text(member) for key, member in value.items()}
        case list():
            return [as_text(item) for item in value]
    return value


texts = st.one_of(
    st.text(),
    st.text(alphabet='"\\/ab[],{}:'),
    st.builds(lambda part, count: part * count, st.sampled_from(["A", "\\", '"', "é", "[1]"]), st.integers(0, 90_000)),
)
values = st.recursive(
    st.one_of(texts, st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(["url", "image_url", "b64_json", "text"]), texts), inner, max_size=4),
    ),
    max_leaves=6,
)


@given(value=values, size=st.sampled_from([1, 2, 5, 1000, 65_536, 2**18]), ascii_only=st.booleans(), php=st.booleans())
def test_every_value_is_read_as_it_was_written(value: Any, size: int, ascii_only: bool, php: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only)
    if php:
        body = body.replace("/", "\\/")
    if len(body) > 20_000:
        size = max(size, 1000)
    assert as_text(read_json(in_pieces(body.encode(), size))) == value


@given(body=st.binary(max_size=50))
def test_bytes_that_are_no_json_are_refused_and_nothing_else(body: bytes) -> None:
    try:
        expected = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        with pytest.raises(ApiError):
            read_json([body])
    else:
        assert json.dumps(read_json([body])) == json.dumps(expected)


@pytest.mark.parametrize("name", ["url", "image_url", "video_url", "image", "video", "b64_json"])
def test_a_long_text_stays_bytes_where_media_may_stand(name: str) -> None:
    assert isinstance(read_json([json.dumps({name: LONG}).encode()])[name], InlineText)


@pytest.mark.parametrize(
    "body", [{"text": LONG}, {LONG: 1}, [LONG], {"url": LONG[1:]}, {"url": LONG + "é"}, {"url": LONG + "\n"}]
)
def test_any_other_text_is_text(body: Any) -> None:
    assert read_json([json.dumps(body).encode()]) == body


@pytest.mark.parametrize(
    "part", [b"1,", b"[],", b'"a",', b'{"a":', b'""', b'{"role":"user","content":"a"},'], ids=lambda part: part.decode()
)
def test_too_many_values_are_refused_before_they_are_made(part: bytes) -> None:
    piece = part * (2**18 // len(part))
    tracemalloc.start()
    try:
        with pytest.raises(ApiError) as refused:
            read_json(itertools.chain([b"["], itertools.repeat(piece, 200)))
        assert refused.value.code == "too_many_values"
        # Of 50 MB that would have come, the text up to the limit and what a piece takes while it is looked through.
        assert tracemalloc.get_traced_memory()[1] < 24 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "body",
    [
        b'{"text":"' + b"\\n" * 5_000_000 + b'"}',
        b'{"text":"' + "ก".encode() * 3_000_000 + b'"}',
        b'{"text":"' + b"a" * 9_000_000 + b'"}',
        b"[" + b",".join([b'"' + b"a" * 60_000 + b'"'] * 150) + b"]",
        b"1" * 9_000_000,
        b" " * 9_000_000,
    ],
    ids=["escapes", "letters", "plain", "many", "a number", "nothing"],
)
def test_more_text_than_is_allowed_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        read_json(in_pieces(body, 2**18))
    assert refused.value.code == "text_too_long"


def test_quotes_without_end_take_no_longer_than_other_text() -> None:
    """Each of them could open a string: a scan from every one to the end would take minutes."""
    with pytest.raises(ApiError):
        read_json(in_pieces(b'{"text":"' + b'\\"' * 8_000_000, 2**18))


def test_an_inline_video_is_not_text_and_may_be_larger() -> None:
    body = b'{"url":"data:video/mp4;base64,' + b"A" * 20_000_000 + b'"}'
    assert len(read_json(in_pieces(body, 2**18))["url"]) == 20_000_022


@pytest.mark.parametrize("body", [b"[" * 150 + b"]" * 150, b'{"a":' * 150 + b"1" + b"}" * 150, b"[" * 100_000])
def test_nesting_has_an_end(body: bytes) -> None:
    with pytest.raises(ApiError, match="nested too deeply"):
        read_json([body])


def test_a_body_over_the_limit_is_too_large_also_where_the_server_did_not_count() -> None:
    piece = b"A" * 2**20
    with pytest.raises(TooLarge):
        read_json(itertools.chain([b'{"url":"'], itertools.repeat(piece, settings.MAX_REQUEST_BYTES // len(piece))))
