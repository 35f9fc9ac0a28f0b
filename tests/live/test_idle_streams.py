"""An idle stream costs no thread and no database connection."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from httpx_sse import ServerSentEvent

from tests import services
from tests.live.events import events_of, long_question
from tests.live.stack import ScaledStack
from tests.media_samples import image_bytes
from tests.waiting import wait_for

STREAMS = 60


@pytest.fixture
def web_without_workers(tiny_model: Path, tmp_path: Path) -> Iterator[ScaledStack]:
    """Everything that is asked waits in the queue: every stream is idle."""
    stack = ScaledStack(
        tmp_path,
        tiny_model,
        postgres_url=services.POSTGRES_URL,
        redis_url=services.OWN_REDIS_URL,
        KEEPALIVE_SECONDS="0.5",
    )
    try:
        yield stack.start(with_worker=False)
    finally:
        stack.stop()


def threads_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("Threads:")[1].split()[0])


def connections_of(stack: ScaledStack) -> int:
    """Those of the web process; one more is the one that asks."""
    sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    return int(stack.query(sql)[0][0])


def open_sockets(pid: int, port: int) -> int:
    """Connections that clients hold to the port: what is counted above is counted with all streams open."""
    established = "01"
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == established for row in rows)


@pytest.mark.redis
@pytest.mark.postgresql
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts threads by /proc, which this system has not")
def test_idle_streams_hold_no_thread_and_no_connection(web_without_workers: ScaledStack) -> None:
    server = web_without_workers
    iterators: list[Iterator[ServerSentEvent]] = []
    with server.client(limits=httpx.Limits(max_connections=None)) as http, contextlib.ExitStack() as streams:
        for number in range(STREAMS):
            body = long_question(session_id=f"idle-{number}")
            response = streams.enter_context(http.stream("POST", "/v1/chat/completions", json=body))
            # Kept: an iterator that is thrown away closes its response.
            iterators.append(events_of(response))
            assert next(iterators[-1]).id == f"idle-{number}:0"
        pid = server.processes["web"].pid
        # The ORM's four, the loop's, a few of the libraries: far from one a stream. They end a moment after a request.
        wait_for(lambda: threads_of(pid) <= 16)
        wait_for(lambda: connections_of(server) <= 5)
        assert open_sockets(pid, server.port) == STREAMS
        assert server.query("SELECT count(*) FROM sessions_app_chatsession WHERE state = 'queued'") == [(STREAMS,)]


@pytest.mark.redis
@pytest.mark.postgresql
def test_what_clerks_wait_for_holds_no_connection(web_without_workers: ScaledStack) -> None:
    server = web_without_workers
    server.run_python(
        "import django; django.setup()\n"
        "from django.contrib.auth.models import Group, User\n"
        "User.objects.create_user('clerk', password='correct-horse').groups.add(Group.objects.get(name='Clerk'))\n"
    )
    with server.client(limits=httpx.Limits(max_connections=None)) as http, contextlib.ExitStack() as streams:
        http.get("/accounts/login/")
        form = {"username": "clerk", "password": "correct-horse", "csrfmiddlewaretoken": http.cookies["csrftoken"]}
        http.post("/accounts/login/", data=form)
        sent = http.post(
            "/ocr/",
            files={"image": ("card.png", image_bytes((320, 200)))},
            headers={"Accept": "application/json", "X-CSRFToken": http.cookies["csrftoken"]},
        )
        assert sent.status_code == 201
        [events] = re.findall(r'data-events="([^"]+)"', sent.text)
        for _ in range(STREAMS):
            response = streams.enter_context(http.stream("GET", events))
            assert response.status_code == 200
        wait_for(lambda: connections_of(server) <= 5)
        assert open_sockets(server.processes["web"].pid, server.port) >= STREAMS
