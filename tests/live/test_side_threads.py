"""A worker that loses one of its threads stops loudly: sessions released, the reason in the log, and an exit status."""

from __future__ import annotations

from pathlib import Path

from inference.worker.stopping import FAILED
from tests.live.events import long_question
from tests.live.stack import EmbeddedStack
from tests.waiting import wait_for

#: the server of this project, whose heartbeat fails as soon as a session runs
BROKEN_SERVER = """
import django
django.setup()
from django.core.management import call_command
from inference.worker.lifecycle import Worker

report = Worker._report

def report_or_fail(worker):
    if worker.writer.running:
        raise RuntimeError("an error that no database made")
    report(worker)

Worker._report = report_or_fail
call_command("serve", "--port", "{port}")
"""


def test_a_worker_whose_heartbeat_ends_releases_its_sessions_and_stops(tiny_model: Path, tmp_path: Path) -> None:
    stack = EmbeddedStack(tmp_path, tiny_model, WORKER_HEARTBEAT_SECONDS=0.2)
    server = stack.launch("serve", "-c", BROKEN_SERVER.format(port=stack.port))
    try:
        stack.wait_for_health("modelReady")
        with stack.client() as http, http.stream("POST", "/v1/chat/completions", json=long_question()) as response:
            assert response.status_code == 200
            wait_for(lambda: not server.is_running(), seconds=60)
        assert server.stop() == FAILED
    finally:
        stack.stop()
    log = server.log.read_text()
    assert "an error that no database made" in log
    assert "this worker stops, because these threads have ended: heartbeat" in log
    # It had released the session, unless the answer was complete before that.
    [(state, chunks)] = stack.query("SELECT state, next_index FROM sessions_app_chatsession")
    assert state in ("queued", "completed")
    assert chunks > 1
