"""Small good inputs to start from, and what mutations put into those that are text."""

from __future__ import annotations

import base64
import json
from typing import Any

from PIL import Image

from tests.media_samples import encode_image, image_bytes, sound_bytes, turned_video_bytes, video_bytes

JSON_TOKENS = (
    *(b"null", b"true", b"{}", b"[]", b"[[]]", b'""', b"0", b"-1", b"1e999", b"-Infinity", b"NaN", b"9" * 400, b"0.5"),
    *(
        b'"\\u0000"',
        b'"\\ud83d"',
        b'"\\ude00"',
        b"\\ud83d",
        b"\\ude00",
        b"\\u0000",
        b'"x"',
        b'"2001"',
        b"[null]",
        b"[1]",
    ),
    *(b"[" * 2000, b'{"a":' * 2000, b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"'", b"```", b"```json\n"),
    *(
        b"\n\n",
        b"\r\n",
        b"\r",
        b"\n",
        b"data: ",
        b"data:",
        b"data",
        b": ka\n",
        b"event: error\n",
        b"id: 1\n",
        b"[DONE]",
    ),
    *(b"retry: 1\n", b"\xef\xbb\xbf", b"\xf0\x9f\x98\x80", b"\xff", b"\xe2\x80\xa8", b"</think>", b"<think>"),
    *(b'"error":null,', b'"error":{"message":null},', b'"choices":null,', b'"usage":null,', b'"delta":null,'),
)
URL_TOKENS = (
    *(b"data:", b";base64", b";base64,", b",", b";", b"=", b"==", b"===", b"%", b"%2B", b"%3D", b"%00", b"%ff", b"+"),
    *(
        b"-",
        b"_",
        b"/",
        b" ",
        b"\t",
        b"\n",
        b"\0",
        b"\xc3\xa9",
        b"\xed\xa0\xbd",
        b"\xff",
        b"A" * 5000,
        b"charset=utf-8",
    ),
)


def images() -> list[bytes]:
    """Every format and mode that is distinguished."""
    size = (24, 17)
    made = [image_bytes(size, format=name) for name in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")]
    made += [
        image_bytes(size, mode=mode, color=color)
        for mode, color in (("RGBA", (9, 9, 9, 9)), ("LA", (9, 9)), ("I;16", 900))
    ]
    made += [
        image_bytes(size, mode=mode, color=color, format="TIFF")
        for mode, color in (("F", 0.5), ("I", 70_000), ("CMYK", 7))
    ]
    made.append(image_bytes(size, mode="P", color=3, transparency=3))
    noise = Image.effect_noise((40, 30), 60)
    made.append(encode_image(noise, format="JPEG", progressive=True))
    made.append(encode_image(noise, format="TIFF", compression="tiff_lzw"))
    made.append(encode_image(noise, format="TIFF", compression="tiff_adobe_deflate"))
    made.append(encode_image(noise, format="WEBP", lossless=True))
    made.append(encode_image(noise, format="GIF", save_all=True, append_images=[noise.rotate(90)]))
    exif = Image.Exif()
    exif[0x0112] = 6
    made.append(encode_image(noise, format="JPEG", exif=exif))
    return made


def videos() -> list[bytes]:
    """Every container that is distinguished."""
    small: dict[str, Any] = {"frames": 6, "size": (32, 24)}
    made = [video_bytes(**small, container=name) for name in ("mp4", "mov", "matroska", "avi", "mpegts")]
    made.append(video_bytes(**small, container="webm", codec="libvpx-vp9"))
    made.append(video_bytes(**small, container="avi", codec="mjpeg", pixel_format="yuvj420p"))
    made.append(video_bytes(**small, container="avi", codec="mpeg4", options={"bf": "2"}))
    made.append(video_bytes(**small, container="gif", codec="gif", pixel_format="rgb8"))
    made.append(video_bytes(**small, container="mpeg", codec="mpeg2video", rate=25))
    made.append(video_bytes(**small, container_options={"movflags": "frag_keyframe+empty_moov"}))
    made += [turned_video_bytes(), sound_bytes()]
    return made


def data_urls() -> list[bytes]:
    picture = base64.b64encode(image_bytes())
    return [
        b"data:image/png;base64," + picture,
        b"data:;base64," + picture.rstrip(b"="),
        b"data:image/png;charset=x;base64," + picture.replace(b"+", b"%2B").replace(b"/", b"%2F"),
        b"DATA:image/png;BASE64," + picture.replace(b"+", b"-").replace(b"/", b"_"),
        b"data:image/png;base64, " + picture[:40] + b"\r\n" + picture[40:],
    ]


def upstream_streams() -> list[bytes]:
    """As several servers stream."""
    usage = {"prompt_tokens": 4, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 1}}
    logprob = {"token": "Halo", "logprob": -0.5, "bytes": [72, 97], "top_logprobs": []}
    logprobs = {"content": [logprob | {"top_logprobs": [logprob]}]}
    chunks: list[dict[str, Any]] = [
        _chunk({"role": "assistant", "content": ""}),
        _chunk({"reasoning_content": "Hm"}),
        _chunk({"content": "Halo"}, logprobs=logprobs),
        _chunk({"content": " dunia 😀"}, finish_reason="stop"),
        {"choices": [], "usage": usage},
    ]
    error = {"error": {"message": "no memory", "type": "server_error", "param": None, "code": 500}}
    tool = _chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}], "refusal": "no"})
    return [
        _stream(chunks) + b"data: [DONE]\n\n",
        _stream([chunk | {"usage": usage, "id": "x", "model": "m"} for chunk in chunks]),
        b"retry: 10\n" + _stream(chunks[:2], b"id: up-1:0\n") + b": ka\n\n" + _stream(chunks[2:]) + b"data: [DONE]\n\n",
        _stream(chunks[:3]) + _stream([error]),
        _stream([tool, _chunk({"content": None}, finish_reason="content_filter")]) + b"data: [DONE]\n\n",
        _stream(chunks).replace(b"\n", b"\r\n"),
    ]


def ktp_answers() -> list[bytes]:
    card = {
        "nik": "9999014501900001",
        "nama": "SITI SPECIMEN",
        "tempat_lahir": "CONTOH",
        "tgl_lahir": "05-01-1990",
        "jenis_kelamin": "PEREMPUAN",
        "alamat": {"name": "JL. CONTOH 1", "rt_rw": "001/002", "kel_desa": "CONTOH", "kecamatan": "CONTOH"},
        "agama": "ISLAM",
        "status_perkawinan": "BELUM KAWIN",
        "pekerjaan": "PELAJAR/MAHASISWA",
        "kewarganegaraan": "WNI",
        "berlaku_hingga": "SEUMUR HIDUP",
    }
    strict = json.dumps(card, indent=1).encode()
    return [
        strict,
        b"<think>The card says {nik}.</think>\n```json\n" + strict + b"\n```",
        strict[:200],
        strict.replace(b'"', b"'").replace(b",\n", b",,\n"),
        json.dumps([card, card | {"nik": None, "nama": ["A"], "agama": {"value": "B"}, "alamat": "JL. X"}]).encode(),
        b"NIK : 9999014501900001\nNama: SITI\n",
    ]


def _chunk(delta: dict[str, Any], *, finish_reason: str | None = None, **members: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason, **members}]}


def _stream(chunks: list[dict[str, Any]], before: bytes = b"") -> bytes:
    return b"".join(before + b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
