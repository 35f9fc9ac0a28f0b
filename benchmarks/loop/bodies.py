"""What goes over the wire, in pieces. A large body repeats one block by reference: it costs the client no memory."""

from __future__ import annotations

import base64
import functools
import io
import json
from collections.abc import Sequence
from typing import Any

#: the key that the server under test accepts; see ``API_KEYS``
KEY = "loop-benchmark-key-0123456789"
#: the key of the neighbours, whose requests are small
NEIGHBOUR_KEY = "neighbour-benchmark-key-0123456789"
CHAT = "/v1/chat/completions"
KTP = "/ktp-ocr/"
MB = 10**6

#: bytes to send, and seconds to wait in between
Pieces = Sequence[bytes | float]

_BLOCK_BYTES = 1 << 16
_BOUNDARY = "----boundary-6d1f0c52b7"
MULTIPART = f"multipart/form-data; boundary={_BOUNDARY}"
URLENCODED = "application/x-www-form-urlencoded"
#: members of a valid chat, to which the hostile ones are added
_CHAT_START = b'{"messages":[{"role":"user","content":"Halo"}],"max_tokens":4,'


def times(unit: bytes, count: int) -> list[bytes]:
    """``unit``, repeated."""
    a_block = max(1, _BLOCK_BYTES // len(unit))
    blocks, rest = divmod(count, a_block)
    return [unit * a_block] * blocks + [unit * rest] * bool(rest)


def filled(unit: bytes, size: int) -> list[bytes]:
    """``unit`` repeated up to ``size`` bytes."""
    return times(unit, size // len(unit))


def listed(item: bytes, count: int) -> list[bytes]:
    """A JSON list of equal items."""
    return [b"[", item, *times(b"," + item, count - 1), b"]"]


def numbered(template: bytes, count: int) -> list[bytes]:
    """``template`` with 0, 1, 2 … in it, joined by commas: members or items that are all different."""
    return [b",".join(template % number for number in range(count))]


def chat_with(member: str, value: Sequence[bytes]) -> list[bytes]:
    """A good chat with one member more, whose value is JSON in pieces."""
    return [_CHAT_START, json.dumps(member).encode(), b":", *value, b"}"]


def chat_saying(content: Sequence[bytes]) -> list[bytes]:
    """A chat whose one message has this content, JSON in pieces."""
    return [b'{"max_tokens":4,"messages":[{"role":"user","content":', *content, b"}]}"]


def text(content: Sequence[bytes]) -> list[bytes]:
    """A JSON string."""
    return [b'"', *content, b'"']


def image_part(url: Sequence[bytes]) -> list[bytes]:
    return [b'[{"type":"image_url","image_url":{"url":"', *url, b'"}},{"type":"text","text":"Apa ini?"}]']


def part(content: Sequence[bytes], *, name: str = "image", headers: Sequence[bytes] = ()) -> list[bytes]:
    """One file of a multipart body."""
    disposition = f'Content-Disposition: form-data; name="{name}"; filename="a.png"\r\n'.encode()
    return [f"--{_BOUNDARY}\r\n".encode(), disposition, *headers, b"\r\n", *content, b"\r\n"]


def multipart(*parts: Sequence[bytes]) -> list[bytes]:
    return [*(piece for one in parts for piece in one), f"--{_BOUNDARY}--\r\n".encode()]


def head(
    method: str, path: str, *, kind: str = "application/json", key: str | None = KEY, headers: Sequence[str] = ()
) -> list[str]:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if kind:
        lines.append(f"Content-Type: {kind}")
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    return lines


def sent(lines: Sequence[str], *framing: str) -> bytes:
    return ("\r\n".join([*lines, *framing]) + "\r\n\r\n").encode()


def request(
    body: Sequence[bytes], method: str = "POST", path: str = CHAT, *, declared: int | None = None, **options: Any
) -> list[bytes]:
    """A request of known length; ``declared`` is a length that it does not keep. The rest goes to ``head``."""
    length = sum(map(len, body)) if declared is None else declared
    return [sent(head(method, path, **options), f"Content-Length: {length}"), *body]


def chunked(body: Sequence[bytes], method: str = "POST", path: str = CHAT, **options: Any) -> list[bytes]:
    """The same without a declared length, a chunk for each piece."""
    framed = [frame for piece in body if piece for frame in (b"%x\r\n" % len(piece), piece, b"\r\n")]
    return [sent(head(method, path, **options), "Transfer-Encoding: chunked"), *framed, b"0\r\n\r\n"]


@functools.cache
def noise_picture(file_format: str, megabytes: float) -> bytes:
    """A picture of noise, which no format compresses, of about this many megabytes."""
    import numpy as np
    from PIL import Image

    # A pixel of noise takes three bytes as PNG, and 2.6 as a JPEG of this quality.
    side = int((megabytes * MB / (3 if file_format == "PNG" else 2.6)) ** 0.5)
    pixels = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)
    target = io.BytesIO()
    options = {"compress_level": 1} if file_format == "PNG" else {"quality": 100, "subsampling": 0}
    Image.fromarray(pixels).save(target, file_format, **options)
    return target.getvalue()


def data_url(data: bytes, kind: str = "image/png") -> list[bytes]:
    return [f"data:{kind};base64,".encode(), base64.b64encode(data)]
