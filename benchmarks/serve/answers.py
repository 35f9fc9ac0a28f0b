"""Reads a stream of chat completion chunks that came from any server, after it has ended.

While it runs, a client only keeps what came and when: parsing would take time from the servers that it measures.
"""

from __future__ import annotations

import bisect
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """Times are those of the clock that the pieces were noted with."""

    #: when the first event with text came; a role alone is no text
    first_text_at: float
    #: when the last event came
    ended_at: float
    text: str
    #: as the server counted them; None when it did not say
    completion_tokens: int | None
    events: int


def read_answer(pieces: Sequence[tuple[float, bytes]]) -> Answer:
    """The answer that these pieces of one HTTP connection make up, each with the time when it came.

    Raises ValueError when it is an error, has no text or no end.
    """
    ends = list(itertools.accumulate(len(data) for _, data in pieces))
    head, separator, _ = (whole := b"".join(data for _, data in pieces)).partition(b"\r\n\r\n")
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise ValueError(whole[:2000].decode(errors="replace") or "the connection was closed without an answer")
    begin = len(head) + len(separator)
    is_chunked = b"transfer-encoding: chunked" in head.lower()
    parts = list(_chunks(whole, begin)) if is_chunked else [(begin, whole[begin:])]

    def when(offset: int) -> float:
        """When the byte at an offset of the body came."""
        part = bisect.bisect_right(starts, offset) - 1
        return pieces[bisect.bisect_right(ends, parts[part][0] + offset - starts[part])][0]

    starts = [0, *itertools.accumulate(len(data) for _, data in parts)][:-1]
    body = b"".join(data for _, data in parts)
    texts: list[str] = []
    first_text_at = ended_at = 0.0
    tokens: int | None = None
    events = 0
    is_done = False
    for data, end in _events(body):
        events += 1
        ended_at = when(end)
        if data == b"[DONE]":
            is_done = True
            break
        event: dict[str, Any] = json.loads(data)
        if "error" in event:
            raise ValueError(str(event["error"])[:2000])
        # Not every server sends [DONE].
        is_done = is_done or any(choice.get("finish_reason") for choice in event.get("choices") or [])
        if usage := event.get("usage"):
            tokens = usage["completion_tokens"]
        if text := "".join(_texts(event)):
            first_text_at = first_text_at or ended_at
            texts.append(text)
    if not is_done or not texts:
        raise ValueError(f"not a whole answer: {body[-2000:].decode(errors='replace')}")
    return Answer(first_text_at, ended_at, "".join(texts), tokens, events)


def _chunks(whole: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """Where the data of each HTTP chunk begins, and the data."""
    while (line_end := whole.find(b"\r\n", offset)) >= 0:
        size = int(whole[offset:line_end].partition(b";")[0], 16)
        if not size:
            return
        yield line_end + 2, whole[line_end + 2 : line_end + 2 + size]
        offset = line_end + 2 + size + 2


def _events(body: bytes) -> Iterator[tuple[bytes, int]]:
    """The data of each event, and the offset of its last byte."""
    offset = 0
    for line in body.splitlines(keepends=True):
        offset += len(line)
        if line.startswith(b"data:"):
            yield line[len(b"data:") :].strip(), offset - 1


def _texts(event: dict[str, Any]) -> Iterator[str]:
    for choice in event.get("choices") or []:
        delta = choice.get("delta") or {}
        yield delta.get("reasoning_content") or delta.get("reasoning") or ""
        yield delta.get("content") or ""
