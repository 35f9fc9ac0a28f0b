"""Loading from a model hub: each time in a process of its own, because the hub's address is read once, at import."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest


class Hub(BaseHTTPRequestHandler):
    """As much of the model hub as a download of one model needs; ``folder`` is set by the test."""

    folder: Path
    commit = "0123456789abcdef0123456789abcdef01234567"

    def do_HEAD(self) -> None:
        self.answer(send_body=False)

    def do_GET(self) -> None:
        self.answer(send_body=True)

    def answer(self, *, send_body: bool) -> None:
        path = self.path.partition("?")[0]
        headers = {"X-Repo-Commit": self.commit}
        if path.startswith("/api/models/someone/tiny/tree/"):
            body = json.dumps([self.listed(file) for file in sorted(self.folder.iterdir())]).encode()
        elif path.startswith("/api/models/someone/tiny"):
            body = json.dumps({"id": "someone/tiny", "sha": self.commit, "siblings": []}).encode()
        else:
            body = (self.folder / path.rpartition("/")[2]).read_bytes()
            headers["ETag"] = f'"{hashlib.sha1(body, usedforsecurity=False).hexdigest()}"'
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if send_body:
            self.wfile.write(body)

    def listed(self, file: Path) -> dict[str, Any]:
        blob = hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()
        return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": blob}

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def hub(tiny_model: Path) -> Iterator[str]:
    handler = type("HubOfTheTinyModel", (Hub,), {"folder": tiny_model})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_download_tells_its_bytes(hub: str, tiny_model: Path, tmp_path: Path) -> None:
    code = (
        "from inference.engine.loading import load_model\n"
        "loaded = load_model('someone/tiny', on_progress=lambda progress: print('TOLD', progress))\n"
        "print('REVISION', loaded.revision)\n"
    )
    environment = {
        "HF_ENDPOINT": hub,
        "HF_HOME": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PATH": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    told = [line for line in done.stdout.splitlines() if line.startswith("TOLD downloading: ")]
    megabytes = sum(file.stat().st_size for file in tiny_model.iterdir()) / 1e6
    assert told[-1] == f"TOLD downloading: {megabytes:,.1f} of {megabytes:,.1f} MB (100%)"
    assert len(told) > 3
    assert f"REVISION {Hub.commit}" in done.stdout
    assert done.stderr == ""


def test_a_hub_that_cannot_be_reached_is_said_to_be_so(tmp_path: Path) -> None:
    code = (
        "from inference.engine.loading import load_model\n"
        "from inference.engine.errors import LoadError\n"
        "try:\n    load_model('someone/some-model')\n"
        "except LoadError as error:\n    print('MESSAGE', error)\n"
    )
    environment = {
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PATH": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert "MESSAGE There is no folder 'someone/some-model', and the model hub cannot be reached" in done.stdout
    # Without a configured log, warnings come out as they are.
    assert len(done.stderr.splitlines()) == 1
