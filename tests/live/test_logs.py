"""What a server at its most talkative writes: never what was asked, answered or printed on a card, in either format."""

from __future__ import annotations

import base64
import io
import json
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ocr.specimens import make_specimen
from tests.live.events import read_stream, text_of
from tests.live.stack import ROOT, EmbeddedStack

READER = ROOT / "models" / "ktp-reader"
KEY = secrets.token_urlsafe(24)
#: asked in words that stand nowhere else
QUESTION = "Apakah zamrudwarsa itu kucilpandai?"
#: what a line of text begins with
TEXT_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ [\w.]+ \[[^\]]+\] ")
#: values that are on every card, or in words of our own
COMMON = 5


@pytest.fixture(params=["text", "json"])
def talkative(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedStack]:
    stack = EmbeddedStack(
        tmp_path / request.param,
        READER,
        LOG_FORMAT=request.param,
        LOG_LEVEL="DEBUG",
        DEBUG="1",
        API_KEYS=KEY,
        OCR_MAX_TOKENS=500,
        TORCH_DTYPE="float32",
    )
    try:
        yield stack.start()
    finally:
        stack.stop()


def json_lines(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def test_the_log_holds_nothing_of_prompts_answers_and_cards(talkative: EmbeddedStack) -> None:
    server = talkative
    card = make_specimen(20_261_126, 3, "flat")
    png = io.BytesIO()
    card.image.save(png, "PNG")
    with server.client(headers={"Authorization": f"Bearer {KEY}"}) as http:
        body = {"messages": [{"role": "user", "content": QUESTION}], "stream": True, "max_tokens": 60}
        answer = text_of(read_stream(http, body | {"session_id": "of-the-callers-own-making"}, X_Request_ID="asked-1"))
        reading = http.post("/ktp-ocr/", files={"image": ("JOKO.png", png.getvalue())}).raise_for_status().json()
        # What is refused, and what fails, is logged too.
        http.post("/v1/chat/completions", json=body | {"temperature": QUESTION})
        http.post("/v1/chat/completions", content=json.dumps(body)[:-5], headers={"Content-Type": "application/json"})
        http.post("/ktp-ocr/", files={"image": QUESTION.encode()})
        http.get(f"/v1/none?q={QUESTION}")
    assert reading["nik"] == card.fields["nik"]
    server.stop()
    log = server.processes["serve"].log.read_text()
    assert "asked-1" in log and "POST /ktp-ocr/ 200" in log
    printed = {str(value) for value in card.fields.values() if len(str(value)) > COMMON}
    read = {value for value in [*reading.values(), *reading["alamat"].values()] if isinstance(value, str)}
    secret = {
        *printed,
        *(value for value in read if len(value) > COMMON),
        *(word for word in QUESTION.split() if len(word) > 7),
        *(answer[at : at + 12] for at in range(0, len(answer) - 12, 6)),
        base64.b64encode(png.getvalue()).decode()[100:140],
        KEY,
        "of-the-callers-own-making",
        reading["meta"]["session_id"],
        "JOKO.png",
    }
    assert len(answer) > 12
    assert {value for value in secret if value and value in log} == set()


def test_every_line_of_json_says_what_it_is_about(start_embedded: Callable[..., EmbeddedStack]) -> None:
    server = start_embedded(LOG_FORMAT="json", LOG_LEVEL="DEBUG")
    with server.client() as http:
        read_stream(http, {"messages": [{"role": "user", "content": "Halo"}], "stream": True}, X_Request_ID="mine-1")
        http.get("/v1/models", headers={"Host": "evil.example"})
    server.stop()
    log = server.processes["serve"].log.read_text()
    # What is not JSON is what the command says to whoever has typed it.
    others = [line for line in log.splitlines() if not line.startswith("{")]
    assert not [line for line in others if TEXT_LINE.match(line) or "Traceback" in line or "it/s" in line], others
    lines = json_lines(log)
    members = {"time", "level", "logger", "message", "request_id", "session", "worker", "attempt"}
    assert all(members <= set(line) <= {*members, "exception"} for line in lines)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in lines)
    of_request = [line for line in lines if line["request_id"] == "mine-1"]
    [begun] = [line for line in of_request if line["logger"] == "inference.worker.runner"]
    [answered] = [line for line in of_request if line["logger"] == "sambung.access"]
    assert begun["session"] == answered["session"]
    assert re.fullmatch(r"sess_.{5}…", begun["session"])
    assert (begun["attempt"], answered["attempt"]) == (1, None)
    [(name,)] = server.query("SELECT name FROM inference_modelworker")
    assert begun["worker"] == name


def test_text_says_the_session_and_the_attempt_behind_the_request(start_embedded: Callable[..., EmbeddedStack]) -> None:
    server = start_embedded()
    with server.client() as http:
        read_stream(http, {"messages": [{"role": "user", "content": "Halo"}], "stream": True}, X_Request_ID="mine-1")
    server.stop()
    log = server.processes["serve"].log.read_text()
    assert re.search(r"INFO inference.worker.runner \[mine-1 sess_.{5}… #1\] ", log)
    assert re.search(r"INFO sambung.access \[mine-1 sess_.{5}…\] POST /v1/chat/completions 200 ", log)
