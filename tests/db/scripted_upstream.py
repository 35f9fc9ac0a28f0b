"""An upstream server that says what a test has written for it, and an engine that asks it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from inference.backends.upstream.engine import UpstreamEngine
from inference.backends.upstream.target import Resume, Target
from inference.engine.types import Delta, Finish
from sessions_app.deltas import TextKind
from sessions_app.models import ChatSession
from sessions_app.storable import UNKNOWN_TOKEN
from sessions_app.store import appending, opening
from tests.db.session_states import claimed

KEY = "sk-upstream-0123456789"
DEADLINE_SECONDS = 20.0
SAMPLING = {
    "max_tokens": 10,
    "temperature": 0.0,
    "top_p": 1.0,
    "seed": 5,
    "stop": ["END"],
    "min_tokens": 4,
    "ignore_eos": False,
}


def chunk(
    text: str = "",
    *,
    finish: str | None = None,
    usage: tuple[int, int] | None = None,
    cached: int = 0,
    **delta: str,
) -> str:
    body: dict[str, Any] = {"choices": [{"index": 0, "delta": {"content": text, **delta}, "finish_reason": finish}]}
    if usage:
        details = {"cached_tokens": cached}
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "prompt_tokens_details": details}
    return f"data: {json.dumps(body)}\n\n"


DONE = "data: [DONE]\n\n"
#: nothing more comes, and the connection stays
SILENCE = "silence"


class Scripted(ThreadingHTTPServer):
    """Answers each request with the next of ``replies``; ``None`` among the events breaks the connection off."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Scribe)
        self.replies: list[tuple[int, dict[str, str], list[str | bytes | None]]] = []
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.is_over = threading.Event()

    def streams(self, *events: str | bytes | None) -> None:
        self.replies.append((200, {"Content-Type": "text/event-stream"}, list(events)))

    def refuses(self, status: int, error: object = None, **headers: str) -> None:
        body = json.dumps({"error": error or {"message": "no"}})
        self.replies.append((status, {"Content-Type": "application/json", **headers}, [body]))


class Scribe(BaseHTTPRequestHandler):
    server: Scripted

    def do_GET(self) -> None:
        self.reply()

    def do_POST(self) -> None:
        self.server.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.headers.append(dict(self.headers))
        self.reply()

    def reply(self) -> None:
        status, headers, events = self.server.replies.pop(0)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if None in events:
            self.send_header("Content-Length", "1000000")
        self.end_headers()
        for event in events:
            if event == SILENCE:
                self.server.is_over.wait(DEADLINE_SECONDS)
            elif event is not None:
                self.wfile.write(event if isinstance(event, bytes) else event.encode())

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def upstream(settings: Any) -> Iterator[Scripted]:
    server = Scripted()
    settings.UPSTREAM_BASE_URL = f"http://127.0.0.1:{server.server_port}/v1"
    settings.UPSTREAM_API_KEY = KEY
    settings.UPSTREAM_RETRY_SECONDS = 10.0
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield server
    server.is_over.set()
    server.shutdown()
    thread.join()
    server.server_close()
    assert not server.replies, "it was asked less often than the test expects"


@pytest.fixture
def start_engine(upstream: Scripted) -> Iterator[Callable[..., UpstreamEngine]]:
    engines = []

    def start(resume: Resume) -> UpstreamEngine:
        engine = UpstreamEngine()
        engine.target = Target("the/model", resume)
        engine.start()
        engines.append(engine)
        return engine

    yield start
    for engine in engines:
        assert engine.stop(DEADLINE_SECONDS)


def session_of(*pieces: appending.Piece, content: Any = "Apa kabar?", media: Any = (), **request: Any) -> ChatSession:
    """Claimed, with these pieces committed by an earlier attempt."""
    session, _ = opening.open_session(
        request={"messages": [{"role": "user", "content": content}], "sampling": SAMPLING, **request},
        request_digest="d",
        model="front",
        request_id="req-1",
        media=media,
    )
    session = claimed(session)
    assert not appending.append([appending.Append(session.pk, session.attempt, 1, pieces)])
    session.refresh_from_db()
    return session


def said(text: str, tokens: int = 1, kind: TextKind = "text") -> appending.Piece:
    return appending.Piece({"type": kind, "text": text}, [UNKNOWN_TOKEN] * tokens)


def collected(handles: Any) -> tuple[list[Delta], Finish]:
    [handle] = handles
    *deltas, finish = handle
    return deltas, finish


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)
