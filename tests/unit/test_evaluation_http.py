"""A server is asked by its own API, and what it answers is judged by that API's words."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ocr.evaluation.readers import HttpReader, ReaderUnusable
from ocr.reading.problems import Problem
from ocr.reading.schema import as_contract, empty_values
from tests.ktp_card import CARD

READY = {"ok": True, "modelReady": True, "modelId": "tiny", "error": None}
LOADING = {"ok": True, "modelReady": False, "modelId": "tiny", "error": None, "progress": "loading the weights"}
FLAG = Problem("nik", "nik_birth_date_differs")

Serve = Callable[..., tuple[str, list[dict[str, Any]]]]


def reading(values: dict[str, str], *problems: Problem, state: str = "read") -> dict[str, Any]:
    meta = {"state": state, "problems": [problem.as_dict() for problem in problems]}
    return {**as_contract(values), "meta": meta}


@pytest.fixture
def serve() -> Iterator[Serve]:
    """serve(status, body, health=[…]): an address that answers so, and the requests that came for a reading."""
    running: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(status: int, body: object, *, health: list[object] | None = None) -> tuple[str, list[dict[str, Any]]]:
        healths = list(health or [READY])
        asked: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(200, healths.pop(0) if len(healths) > 1 else healths[0])

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                asked.append({"path": self.path, "key": self.headers["Authorization"], "content": content})
                self._send(status, body)

            def _send(self, status: int, body: object) -> None:
                encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(encoded)))
                self.end_headers()
                self.wfile.write(encoded)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}", asked

    yield start
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()


def open_reader(base_url: str, *, api_key: str = "", on_progress: Callable[[str], None] = lambda stage: None) -> Any:
    return HttpReader(base_url, api_key=api_key, timeout_seconds=20, on_progress=on_progress)


def test_the_picture_goes_as_the_field_image_with_its_name_and_the_key(serve: Serve) -> None:
    base_url, asked = serve(200, reading(CARD))
    reader = open_reader(base_url + "/", api_key="secret")
    answer = reader.read(b"the picture", "000001.jpg")
    reader.close()
    assert reader.name == f"tiny at {base_url}"
    [request] = asked
    assert (request["path"], request["key"]) == ("/ktp-ocr/", "Bearer secret")
    assert b'name="image"; filename="000001.jpg"' in request["content"]
    assert b"the picture" in request["content"]
    assert answer.values == CARD
    assert answer.has_reading
    assert answer.seconds > 0


def test_without_a_key_none_is_sent(serve: Serve) -> None:
    base_url, asked = serve(200, reading(CARD))
    reader = open_reader(base_url)
    reader.read(b"", "1.jpg")
    reader.close()
    assert asked[0]["key"] is None


@pytest.mark.parametrize(
    ("problem", "has_reading", "flagged"),
    [
        (FLAG, True, {"nik"}),
        (Problem("nik", "nik_unused_district", "info"), True, set()),
        (Problem(None, "not_json", "error"), False, set()),
        (Problem("nama", "of_a_later_release"), True, {"nama"}),
    ],
)
def test_problems_are_taken_as_the_server_tells_them(
    serve: Serve, problem: Problem, has_reading: bool, flagged: set[str]
) -> None:
    base_url, _ = serve(200, reading(CARD, problem))
    reader = open_reader(base_url)
    answer = reader.read(b"", "1.jpg")
    reader.close()
    assert answer.problems == (problem,)
    assert (answer.has_reading, answer.flagged) == (has_reading, flagged)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (503, {"error": {"message": "Too many are waiting."}}, "503: Too many are waiting."),
        (502, b"<html>", "502: Bad Gateway"),
        (200, b"<html>", "The answer is not what POST /ktp-ocr/ gives."),
        (200, dict(as_contract(CARD)), "The answer is not what POST /ktp-ocr/ gives."),
        (
            200,
            reading(empty_values(), Problem(None, "generation_failed", "error"), state="failed"),
            "The reading failed on the server.",
        ),
    ],
)
def test_a_picture_that_the_server_fails_on_is_an_answer_with_the_reason(
    serve: Serve, status: int, body: object, error: str
) -> None:
    base_url, _ = serve(status, body)
    reader = open_reader(base_url)
    answer = reader.read(b"", "1.jpg")
    reader.close()
    assert answer.error == error
    assert not any(answer.values.values())


@pytest.mark.parametrize("status", [401, 404])
def test_a_server_that_will_not_read_the_next_picture_either_is_given_up(serve: Serve, status: int) -> None:
    base_url, _ = serve(status, {"error": {"message": "No."}})
    reader = open_reader(base_url)
    with pytest.raises(ReaderUnusable, match=rf"{base_url} answers {status}: No\."):
        reader.read(b"", "1.jpg")
    reader.close()


def test_a_model_that_is_loading_is_waited_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocr.evaluation.readers.POLL_SECONDS", 0.01)
    base_url, _ = serve(200, b"", health=[LOADING, LOADING, READY])
    stages: list[str] = []
    open_reader(base_url, on_progress=stages.append).close()
    assert stages == ["loading the weights"]


@pytest.mark.parametrize(
    ("health", "complaint"),
    [
        ({**LOADING, "error": "out of memory"}, "has no model: out of memory"),
        ({"status": "up"}, "is no server of this kind"),
        (b"<html>", "is no server of this kind"),
    ],
)
def test_a_server_without_a_model_is_refused(serve: Serve, health: object, complaint: str) -> None:
    base_url, _ = serve(200, b"", health=[health])
    with pytest.raises(ReaderUnusable, match=complaint):
        open_reader(base_url)
