"""``/metrics`` of real servers: every figure moves when what it counts happens, and several processes show the same."""

from __future__ import annotations

import base64
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests import services
from tests.live.events import QUESTION, endless_question, events_of, long_question, read_stream
from tests.live.stack import EmbeddedStack, ScaledStack, free_port
from tests.media_samples import image_bytes, video_bytes
from tests.scraped import Scraped, parsed
from tests.waiting import wait_for

#: what a server that works does not count; moved in tests/db/test_metrics.py, the last in test_engine_process.py here
FAILURES = {
    "sambung:takeovers_total",
    "sambung:fenced_appends_total",
    "sambung:commit_failures_total",
    "sambung:engine_losses_total",
}
HEARTBEAT = "SELECT heartbeat_at FROM inference_modelworker"
#: the workers are ready and the database is up; nothing waits longer than a slot takes to be free
PASSING = {"sambung:num_requests_waiting", "sambung:oldest_waiting_seconds"}


def scrape(http: httpx.Client, **headers: str) -> Scraped:
    response = http.get("/metrics", headers=headers)
    assert response.status_code == 200, response.text
    return parsed(response.text)


def names(found: Scraped) -> set[str]:
    """Of samples that are not nothing; of a histogram its count."""
    return {
        sample.partition("{")[0]
        for sample, value in found.items()
        if value and not sample.partition("{")[0].endswith("_bucket")
    }


def with_media(kind: str, data: bytes) -> dict[str, object]:
    url = f"data:{'image/png' if kind == 'image' else 'video/mp4'};base64,{base64.b64encode(data).decode()}"
    part = {"type": f"{kind}_url", f"{kind}_url": {"url": url}}
    return QUESTION | {"messages": [{"role": "user", "content": [part, {"type": "text", "text": "Apa ini?"}]}]}


def test_every_figure_moves_with_what_it_counts(start_embedded: Callable[..., EmbeddedStack]) -> None:
    # Little memory, so that rows are preempted; fewer rows than requests, so that one waits.
    server = start_embedded(KV_CACHE_MB=6, MAX_BATCH_SIZE=2, WORKER_HEARTBEAT_SECONDS=0.2, HUB_POLL_SECONDS=0.1)
    with server.client() as http:
        at_first = scrape(http)
        seen = set[str]()
        read_stream(http, with_media("image", image_bytes((64, 64))))
        read_stream(http, with_media("video", video_bytes()))
        for _ in range(2):
            body = QUESTION | {"messages": [{"role": "user", "content": "Ceritakan sebuah kisah yang panjang. " * 10}]}
            events = read_stream(http, body)
        read_stream(http, body | {"session_id": "resumed"})
        cursor = events[2].id
        with http.stream(
            "POST", "/v1/chat/completions", json={"stream": True}, headers={"Last-Event-ID": cursor}
        ) as response:
            assert response.status_code == 200
            list(events_of(response))
        http.post("/ktp-ocr/", files={"image": image_bytes((64, 40))}).raise_for_status()
        with server.client() as one, server.client() as two, server.client() as three:
            waiting = [
                client.stream("POST", "/v1/chat/completions", json=endless_question(n=1))
                for client in (one, two, three)
            ]
            responses = [stream.__enter__() for stream in waiting]

            def have_waited() -> bool:
                seen.update(names(scrape(http)))
                return {*PASSING, "sambung:num_preemptions_total"} <= seen

            wait_for(have_waited, seconds=90)
            for response in responses:
                http.post(f"/v1/cancel/{response.headers['x-session-id']}").raise_for_status()
            for stream in waiting:
                stream.__exit__(None, None, None)
        for _ in range(2):
            with http.stream("POST", "/v1/chat/completions", json=long_question(max_tokens=100)):
                pass  # left at once
        # The engine's figures come with the next heartbeat.
        wait_for(lambda: scrape(http)["sambung:num_requests_running"] == scrape(http)["sambung:batch_rows"] == 0)
        seen |= names(scrape(http))
        last = scrape(http)
    expected = {name for name in at_first.names if name.startswith("sambung:") and not name.endswith("_bucket")}
    assert expected - seen - FAILURES - {"sambung:hub_gaps_total"} == set()
    assert last['sambung:http_requests_total{endpoint="/v1/chat/completions",status="200"}'] == 11
    assert last['sambung:media_total{kind="image"}'] == 2
    assert last['sambung:media_total{kind="video"}'] == 1
    assert last['sambung:sessions_opened_total{origin="ocr"}'] == 1
    [(cancelled,)] = server.query("SELECT count(*) FROM sessions_app_chatsession WHERE state = 'cancelled'")
    assert last['sambung:request_success_total{finished_reason="abort"}'] == cancelled >= 1
    assert last["sambung:resumes_total"] == 1
    assert last.sum("sambung:ocr_readings_total") == 1
    # The one that was cancelled in the queue was nobody's to measure.
    ended = last.sum("sambung:request_success_total")
    assert ended - 1 <= last["sambung:e2e_request_latency_seconds_count"] <= ended
    assert last["sambung:listeners"] == last["sambung:batch_rows"] == 0
    tokens = server.query("SELECT sum(completion_tokens), sum(prompt_tokens) FROM sessions_app_chatsession")
    assert [(last["sambung:generation_tokens_total"], last["sambung:prompt_tokens_total"])] == tokens


@pytest.fixture
def scaled(tiny_model: Path, tmp_path: Path) -> Iterator[Callable[..., ScaledStack]]:
    started: list[ScaledStack] = []

    def start(**settings: object) -> ScaledStack:
        stack = ScaledStack(
            tmp_path / "scaled",
            tiny_model,
            postgres_url=services.POSTGRES_URL,
            redis_url=services.OWN_REDIS_URL,
            WORKER_HEARTBEAT_SECONDS=0.2,
            **settings,
        )
        started.append(stack)
        return stack.start()

    yield start
    for stack in started:
        stack.stop()


@pytest.mark.redis
@pytest.mark.postgresql
def test_the_processes_of_a_host_show_the_same_in_one_folder(
    scaled: Callable[..., ScaledStack], tmp_path: Path
) -> None:
    stack = scaled(METRICS_DIR=tmp_path / "metrics")
    second = free_port()
    stack.start_web("web-2", second)
    with stack.client() as http, httpx.Client(base_url=f"http://127.0.0.1:{second}", timeout=60) as other:
        wait_for(lambda: _answers(other))
        read_stream(http, QUESTION)
        with other.stream("POST", "/v1/chat/completions", json=long_question()) as response:
            stream = events_of(response)
            next(stream)
            wait_for(lambda: scrape(http)["sambung:listeners"] == 1)
            # The worker's row is shown by a web process, and goes when the worker is killed.
            wait_for(lambda: scrape(http)["sambung:batch_rows"] == 1)
            tokens = scrape(http)["sambung:generation_tokens_total"]
            stack.processes["worker"].kill()
            wait_for(lambda: "sambung:batch_rows" not in scrape(http))
            assert scrape(http)["sambung:generation_tokens_total"] >= tokens > 0
            del stack.processes["worker"]
            stack.start_worker("worker-2")
            wait_for(lambda: scrape(other)["sambung:takeovers_total"] == 1, seconds=90)
            last = list(stream)[-1]
        assert last.data == "[DONE]"
        wait_for(lambda: scrape(http)['sambung:request_success_total{finished_reason="length"}'] == 2)
        assert scrape(other)["sambung:generation_tokens_total"] == scrape(http)["sambung:generation_tokens_total"]
        assert scrape(other).sum("sambung:request_success_total") == 2


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/live").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.redis
@pytest.mark.postgresql
def test_a_worker_alone_shows_its_own_at_a_port_of_its_own(scaled: Callable[..., ScaledStack]) -> None:
    port = free_port()
    stack = scaled(WORKER_METRICS_PORT=port, METRICS_TOKEN="right")
    token = {"authorization": "Bearer right"}
    with stack.client() as http, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as worker:
        read_stream(http, QUESTION)
        assert worker.get("/metrics").status_code == 401
        assert worker.get("/other", headers=token).status_code == 404
        assert scrape(worker, **token)["sambung:generation_tokens_total"] == 40
        # The web process counts what it does itself, and reads of the workers what the database knows.
        shown = scrape(http, **token)
        assert "sambung:generation_tokens_total" not in shown
        assert shown['sambung:workers{state="ready"}'] == 1


def test_a_worker_that_drains_finishes_and_takes_no_more(start_embedded: Callable[..., EmbeddedStack]) -> None:
    server = start_embedded(WORKER_HEARTBEAT_SECONDS=0.2, QUEUE_POLL_SECONDS=0.1)
    with server.client() as http, server.client() as later:
        with http.stream("POST", "/v1/chat/completions", json=long_question()) as response:
            stream = events_of(response)
            next(stream)
            server.manage("workers", "drain", "--all")
            wait_for(lambda: later.get("/ready").status_code == 503)
            # The worker has read the mark when it has written two heartbeats since.
            [(marked_at,)] = server.query(HEARTBEAT)
            wait_for(lambda: server.query(HEARTBEAT) > [(marked_at,)])
            [(next_at,)] = server.query(HEARTBEAT)
            wait_for(lambda: server.query(HEARTBEAT) > [(next_at,)])
            with later.stream("POST", "/v1/chat/completions", json=QUESTION) as waiting:
                session_id = waiting.headers["x-session-id"]
                assert list(stream)[-1].data == "[DONE]"
                server.manage("workers", "drain", "--all", "--wait")
                [(state,)] = server.query("SELECT state FROM sessions_app_chatsession WHERE id = ?", session_id)
                assert state == "queued"
                server.manage("workers", "resume", "--all")
                assert list(events_of(waiting))[-1].data == "[DONE]"
        wait_for(lambda: later.get("/ready").status_code == 200)


def test_who_tails_a_session_leaves_it_running(start_embedded: Callable[..., EmbeddedStack]) -> None:
    server = start_embedded(WORKER_HEARTBEAT_SECONDS=0.2)
    with server.client() as http:
        with http.stream("POST", "/v1/chat/completions", json=long_question(n=4)) as response:
            session_id = response.headers["x-session-id"]
            tail = subprocess.Popen(
                [sys.executable, "manage.py", "sessions", "tail", f"{session_id[:10]}…"],
                cwd=server.root,
                env=server.env,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert tail.stdout is not None
            begun = tail.stdout.read(1)
            tail.send_signal(signal.SIGINT)
            rest, told = tail.communicate(timeout=60)
            events = list(events_of(response))
    assert tail.returncode == 130
    assert "the session continues" in told and "Traceback" not in told
    assert session_id not in told
    assert events[-1].data == "[DONE]"
    assert begun + rest
    assert server.query("SELECT state FROM sessions_app_chatsession WHERE id = ?", session_id) == [("completed",)]
