"""Every way to send an image or a video, through a live server to the model."""

from __future__ import annotations

import base64
import functools
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest

from tests.media_samples import image_bytes, video_bytes

IMAGE = image_bytes((96, 64), color="blue")


@functools.cache
def video() -> bytes:
    return video_bytes(frames=12)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def media_host() -> Iterator[str]:
    """A web server with ``/image.png`` and ``/video.mp4``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            files = {"/image.png": IMAGE, "/video.mp4": video()}
            body = files.get(self.path)
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    host = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=host.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{host.server_port}"
    host.shutdown()
    host.server_close()
    thread.join(5)


def ask(http: httpx.Client, *parts: dict[str, Any]) -> httpx.Response:
    content = [{"type": "text", "text": "Apa ini?"}, *parts]
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 4, "temperature": 0, "ignore_eos": True}
    return http.post("/v1/chat/completions", json=body)


def prompt_tokens(response: httpx.Response) -> int:
    assert response.status_code == 200, response.text
    return int(response.json()["usage"]["prompt_tokens"])


def test_all_forms_of_an_image_are_the_same_image(http: httpx.Client, media_host: str) -> None:
    data_url = f"data:image/png;base64,{encoded(IMAGE)}"
    forms: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": data_url}},
        {"type": "image_url", "image_url": data_url},
        {"type": "image_url", "image_url": {"url": f"{media_host}/image.png"}},
        {"type": "image_url", "image_url": encoded(IMAGE)},
        {"type": "input_image", "b64_json": encoded(IMAGE)},
        {"type": "input_image", "image": encoded(IMAGE)},
    ]
    answers = {
        (prompt_tokens(reply), reply.json()["choices"][0]["message"]["content"])
        for reply in (ask(http, form) for form in forms)
    }
    assert len(answers) == 1
    assert answers.pop()[0] > prompt_tokens(ask(http))


def test_all_forms_of_a_video_are_the_same_video(http: httpx.Client, media_host: str) -> None:
    forms: list[dict[str, Any]] = [
        {"type": "video_url", "video_url": {"url": f"{media_host}/video.mp4"}},
        {"type": "video_url", "video_url": f"data:video/mp4;base64,{encoded(video())}"},
        {"type": "input_video", "b64_json": encoded(video())},
        {"type": "input_video", "video": encoded(video())},
    ]
    answers = {
        (prompt_tokens(reply), reply.json()["choices"][0]["message"]["content"])
        for reply in (ask(http, form) for form in forms)
    }
    assert len(answers) == 1
    assert answers.pop()[0] > prompt_tokens(ask(http))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/none.png"}},
        {"type": "image_url", "image_url": {"url": "ftp://example.org/a.png"}},
        {"type": "image_url", "image_url": {"url": "/etc/hostname"}},
        {"type": "image_url", "image_url": {"url": "file:///etc/hostname"}},
        {"type": "image_url", "image_url": {}},
        {"type": "image_url"},
        {"type": "input_image", "b64_json": "!!! not base64 !!!"},
        {"type": "input_image", "b64_json": encoded(b"not an image at all, only text")},
        {"type": "input_image", "b64_json": encoded(IMAGE[: len(IMAGE) // 2])},
        {"type": "input_video", "b64_json": encoded(IMAGE)},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
        {"type": "hologram"},
    ],
)
def test_a_part_that_cannot_be_used_is_refused_by_its_place(http: httpx.Client, part: dict[str, Any]) -> None:
    refused = ask(http, part)
    assert refused.status_code == 400, refused.text
    error = refused.json()["error"]
    assert error["param"].startswith("messages[0].content[1]")
    assert "hostname" not in error["message"]
