"""Reads the body of a request, off the event loop if it is large: a chat as JSON, a card as a form with a file."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pydantic
from django.http import HttpRequest

from inference.api.digest import digest_of
from inference.api.error_rendering import validation_error
from inference.api.json_body import PIECE_BYTES, read_json
from inference.api.schemas import FIELD_NAMES, ChatCompletionRequest
from inference.errors import ApiError, InvalidRequest
from inference.media.parts import ParsedConversation, parse_messages

T = TypeVar("T")

#: bodies up to this size are parsed on the loop: that takes a few milliseconds, less than a thread costs under load
MAX_BYTES_ON_THE_LOOP = 2**16
PARSING_THREADS = 2


class UnsupportedMediaType(ApiError):
    """A body that is not declared as what is wanted, or is packed."""

    status = 415
    code = "unsupported_media_type"


@dataclasses.dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat request with all checks done that need neither the database nor media."""

    asked: ChatCompletionRequest
    #: SHA-256 of the request, see ``digest_of``
    digest: str
    #: None when the request has no messages
    conversation: ParsedConversation | None


async def read_chat_request(request: HttpRequest) -> ChatRequest:
    """Raises an ``ApiError`` that explains what is wrong with the body."""
    pieces = _pieces(request)
    first = next(pieces, b"")
    if not first:
        raise InvalidRequest("The request has no body. Send a JSON object.", code="invalid_json")
    _check_content_type(request, "application/json")
    if len(first) < MAX_BYTES_ON_THE_LOOP:
        return _chat_request([first])
    return await _in_thread(_chat_request, itertools.chain([first], pieces))


@dataclasses.dataclass(frozen=True, slots=True)
class Upload:
    """A file from a form."""

    #: the name that the client gave the file
    name: str
    data: bytes = dataclasses.field(repr=False)


async def read_form(request: HttpRequest, read: Callable[[HttpRequest], T]) -> T:
    """What ``read`` makes of the form, in a thread: parsing it takes long. Raises as that does, and ``ApiError``."""
    _check_content_type(request, "multipart/form-data")
    return await _in_thread(read, request)


def _chat_request(pieces: Any) -> ChatRequest:
    body = read_json(pieces)
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    try:
        asked = ChatCompletionRequest.model_validate(body)
    except pydantic.ValidationError as exc:
        raise validation_error(exc.errors(include_url=False, include_input=False), names=FIELD_NAMES) from exc
    asked.check()
    conversation = None if asked.messages is None else parse_messages(body["messages"])
    return ChatRequest(asked, digest_of(asked), conversation)


def _check_content_type(request: HttpRequest, wanted: str) -> None:
    if request.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType("Send the body as it is, without a Content-Encoding such as gzip.")
    if request.content_type is None or request.content_type.lower() != wanted:
        raise UnsupportedMediaType(f"Send the body as {wanted}.")


def _pieces(request: HttpRequest) -> Iterator[bytes]:
    size = MAX_BYTES_ON_THE_LOOP
    while piece := request.read(size):
        yield piece
        size = PIECE_BYTES


async def _in_thread(work: Callable[..., T], *args: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(_threads(), work, *args)


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=PARSING_THREADS, thread_name_prefix="body")
