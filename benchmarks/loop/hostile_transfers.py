"""Forms, pictures, and bodies over the limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from urllib.parse import quote

from benchmarks.loop.bodies import (
    CHAT,
    KTP,
    MB,
    MULTIPART,
    URLENCODED,
    Pieces,
    chat_saying,
    chat_with,
    chunked,
    data_url,
    filled,
    head,
    image_part,
    listed,
    multipart,
    noise_picture,
    part,
    request,
    sent,
    text,
    times,
)
from benchmarks.loop.hostile import ANSWERED, EITHER, REFUSED, REFUSED_MB, Hostile, chat


def _form(path: str, body: Sequence[bytes], kind: str = MULTIPART) -> Callable[[], Pieces]:
    return lambda: request(body, path=path, kind=kind)


def forms() -> Iterator[Hostile]:
    file = multipart(part(filled(b"\x00\x01\xfe", 19 * MB)))
    for path in (CHAT, KTP, "/health", "/nowhere", "/ocr/"):
        yield Hostile(
            f"multipart-19mb {path}",
            "one file of 19 MB that is no picture",
            _form(path, file),
        )
        yield Hostile(
            f"newlines-3mb {path}",
            "a multipart body that is 3 MB of newlines",
            _form(path, filled(b"\n", 3 * MB)),
        )
    for path in (CHAT, "/health", "/nowhere"):
        yield Hostile(
            f"urlencoded-3mb {path}",
            "a form of 750,000 fields",
            _form(path, filled(b"a=b&", 3 * MB), URLENCODED),
        )
    yield Hostile(
        "lines-24mb /health",
        "24 MB of short lines as multipart",
        _form("/health", filled(b"x\n", 24 * MB)),
    )
    yield Hostile(
        "ampersands-1m",
        "a form of a million ampersands",
        _form("/accounts/login/", filled(b"&", MB), URLENCODED),
    )
    yield Hostile(
        "multipart-10k-parts",
        "a form of 10,000 files",
        _form(KTP, multipart(*[part([b"x"], name=f"f{n}") for n in range(10_000)])),
    )
    yield Hostile(
        "multipart-header-1mb",
        "a file whose header has 1 MB",
        _form(KTP, multipart(part([b"x"], headers=[b"X-A: ", *filled(b"a", MB), b"\r\n"]))),
    )
    yield Hostile(
        "multipart-boundary-12kb",
        "a boundary of 12 kB, in 19 MB of its beginnings",
        _form(
            KTP,
            filled(b"--" + b"b" * 11_000 + b"\r\n", 19 * MB),
            "multipart/form-data; boundary=" + "b" * 12_000,
        ),
    )
    for encoding, unit in (("base64", b"QUJD"), ("quoted-printable", b"=41")):
        header = f"Content-Transfer-Encoding: {encoding}\r\n".encode()
        yield Hostile(
            f"multipart-{encoding}",
            f"a file of 19 MB in {encoding}",
            _form(KTP, multipart(part(filled(unit, 19 * MB), headers=[header]))),
        )
    yield Hostile(
        "multipart-preamble-19mb",
        "19 MB before the first boundary",
        _form(KTP, [*filled(b"a\r\n-", 19 * MB), *multipart(part([b"x"]))]),
    )


def oversized() -> Iterator[Hostile]:
    letters = filled(b"a", 300 * MB)
    yield Hostile("letter-300mb", "300 MB of one letter, declared", lambda: request(letters), REFUSED, REFUSED_MB)
    yield Hostile("letter-300mb-chunked", "the same, not declared", lambda: chunked(letters), REFUSED, REFUSED_MB)
    yield Hostile(
        "letter-300mb /nowhere",
        "the same to an unknown address",
        lambda: chunked(letters, path="/nowhere"),
        REFUSED,
        REFUSED_MB,
    )
    yield Hostile(
        "no-key-400mb",
        "400 MB without a key, declared",
        lambda: request(filled(b"a", 400 * MB), key=None),
        REFUSED,
        REFUSED_MB,
    )
    yield Hostile(
        "no-key-400mb-chunked",
        "the same, not declared",
        lambda: chunked(filled(b"a", 400 * MB), key=None),
        REFUSED,
        REFUSED_MB,
    )
    yield Hostile(
        "no-key-60mb",
        "60 MB of JSON with a wrong key",
        lambda: request(chat_with("x", listed(b"[]", 20 * MB)), key="wrong"),
        REFUSED,
        REFUSED_MB,
    )
    yield Hostile(
        "chunks-1m",
        "a million chunks of one byte",
        lambda: [sent(head("POST", CHAT), "Transfer-Encoding: chunked"), *times(b"1\r\na\r\n", MB), b"0\r\n\r\n"],
        REFUSED,
        REFUSED_MB,
    )
    yield Hostile(
        "chunk-extension-10mb",
        "a chunk with an extension of 10 MB",
        lambda: [
            *(sent(head("POST", CHAT), "Transfer-Encoding: chunked"), b"1;"),
            *filled(b"a", 10 * MB),
            b"\r\na\r\n0\r\n\r\n",
        ],
        REFUSED,
        REFUSED_MB,
    )
    yield Hostile(
        "parallel-16x20mb",
        "16 bodies of 20 MB at once",
        lambda: request(chat_with("x", text(filled(b"a", 20 * MB)))),
        EITHER,
        connections=16,
    )
    for method in ("PUT", "DELETE", "OPTIONS", "GET", "HEAD"):
        yield Hostile(
            f"{method.lower()}-20mb",
            f"a {method} with a body of 20 MB",
            partial(request, filled(b"[],", 20 * MB), method),
            REFUSED | ({200, 204} if method == "OPTIONS" else set()),
            REFUSED_MB,
        )
    yield Hostile(
        "get-health-20mb",
        "a probe with a form of 20 MB",
        lambda: request(filled(b"a=b&", 20 * MB), "GET", "/health", kind=URLENCODED, key=None),
        EITHER,
        REFUSED_MB,
    )


def _chat_with_noise(file_format: str, megabytes: float) -> Pieces:
    return request(chat_saying(image_part(data_url(noise_picture(file_format, megabytes)))))


def media() -> Iterator[Hostile]:
    for file_format, megabytes in (("JPEG", 15.0), ("PNG", 15.0), ("PNG", 21.5)):
        yield Hostile(
            f"image-{file_format.lower()}-{megabytes:.0f}mb",
            f"a chat with a {file_format} of noise of {megabytes:.0f} MB",
            partial(_chat_with_noise, file_format, megabytes),
            EITHER if megabytes < 20 else REFUSED,
        )
    junk = {
        "garbage": ("21 MB of base64 that is no picture", [b"data:image/png;base64,", *filled(b"QUJD", 21 * MB)]),
        "not-base64": ("20 MB of a data URL that is not base64", [b"data:image/png;base64,", *filled(b"!", 20 * MB)]),
        "percent": (
            "20 MB of a data URL in percent-encoding",
            [b"data:image/png;base64,", *filled(quote("/").encode(), 20 * MB)],
        ),
        "blanks": (
            "20 MB of blanks in a data URL",
            [b"data:image/png;base64,iVBORw0KGgo", *filled(b" ", 20 * MB), b"="],
        ),
        "no-comma": ("20 MB of a data URL's head", [b"data:", *filled(b"a", 20 * MB)]),
        "bare": ("20 MB of base64 without a URL", filled(b"QUJD", 20 * MB)),
        "http-20mb": ("a URL of 20 MB", [b"http://127.0.0.1/", *filled(b"a", 20 * MB)]),
    }
    for name, (what, url) in junk.items():
        yield chat(f"image-{name}", what, partial(chat_saying, image_part(url)))
    yield Hostile(
        "ktp-20mb",
        "a card of 19.9 MB, a PNG of noise",
        lambda: request(multipart(part([noise_picture("PNG", 19.8)])), path=KTP, kind=MULTIPART),
        ANSWERED,
    )
    yield Hostile(
        "ktp-60mb",
        "a card of 60 MB that is no picture",
        _form(KTP, multipart(part(filled(b"\x89PNG", 60 * MB)))),
    )
