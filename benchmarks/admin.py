"""What the admin costs with a large log: its front page, the list of sessions and a session's page.

It starts a server of its own on this machine, on a database of its own in the PostgreSQL of ``TESTS_POSTGRES_URL``,
fills it with SQL, and removes it in the end:

    python -m benchmarks.admin
    python -m benchmarks.admin --sessions 10000 --viewers 20 --json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from benchmarks.listeners import all_ended, attaching, listen
from benchmarks.servers import allow_sockets, feeder, scaled
from inference.tiny_models.vision import build_tiny_model
from tests.live.stack import ScaledStack

#: sessions that are written in one statement
BATCH = 5000
QUEUED = 200
STREAMS, RATE, SECONDS = 50, 10, 15
ROUNDS = 8
VIEWER_SECONDS = 2.0
#: maximum milliseconds that a page may take
LIMIT_MS = 300

SESSIONS = """
INSERT INTO sessions_app_chatsession (id, state, origin, model, request, request_digest, request_id, caller, is_named,
    attempt, workers_lost, worker, fingerprint, next_index, finish_reason, prompt_tokens, completion_tokens,
    created_at, enqueued_at, started_at, first_token_at, finished_at)
SELECT 'old-' || n, CASE WHEN mod(n, 40) = 0 THEN 'failed' WHEN mod(n, 25) = 0 THEN 'cancelled' ELSE 'completed' END,
    CASE WHEN mod(n, 10) = 0 THEN 'ocr' ELSE 'chat' END, 'benchmark',
    '{"messages": [{"role": "user", "content": "Ceritakan sesuatu."}], "sampling": {"max_tokens": 500}}', '', '',
    'key:' || mod(n, 50), TRUE, 1, 0, 'worker-' || mod(n, 4), '{}', ?, 'stop', 20, ?, at, at, at + interval '40 ms',
    at + interval '90 ms', at + interval '5 s'
FROM (SELECT n, now() - n * interval '20 s' AS at FROM generate_series(?::int, ?::int) AS n) AS numbered
"""
CHUNKS = """
INSERT INTO sessions_app_chunk (session_id, index, delta, token_ids, created_at)
SELECT 'old-' || n, i,
    CASE WHEN i = 0 THEN '{"type": "start"}' ELSE '{"type": "text", "text": " kata dan kata"}' END::jsonb,
    CASE WHEN i = 0 THEN '[]' ELSE '[11, 12, 13]' END::jsonb, now() - n * interval '20 s' + i * interval '30 ms'
FROM generate_series(?::int, ?::int) AS n CROSS JOIN generate_series(0, ? - 1) AS i
"""
WAITING = """
INSERT INTO sessions_app_chatsession (id, state, origin, model, request, request_digest, request_id, caller, is_named,
    attempt, workers_lost, worker, fingerprint, next_index, finish_reason, created_at, enqueued_at)
SELECT 'waiting-' || n, 'queued', 'chat', 'benchmark', '{}', '', '', 'key:' || mod(n, 50), TRUE, 0, 0, '', '{}', 1, '',
    now(), now() FROM generate_series(1, ?) AS n
"""
#: the server has begun to write its own
FIGURES = """
INSERT INTO sessions_app_historyfigure (minutes, minute, name, value)
SELECT step, (extract(epoch FROM now()) / 60)::int / step * step - n * step, name, 10
FROM (VALUES (1, 2, 1500), (60, 26, 720)) AS span (step, first, last)
CROSS JOIN generate_series(first, last) AS n
CROSS JOIN unnest(ARRAY['tokens', 'opened', 'completed', 'failed', 'cancelled', 'takeovers', 'resumes', 'errors',
    'queue', 'queue_samples', 'first_token:0.025:0.05', 'first_token:0.05:0.1', 'first_token:0.1:0.25']) AS name
ON CONFLICT DO NOTHING
"""
#: one who may do everything: prints the cookie of a log-in
LOG_IN = """
import django; django.setup()
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.create_superuser("operator"))
print(client.cookies["sessionid"].value)
"""
#: in a separate process, so that no figures are cached
COUNT = """
import json, sys
import django; django.setup()
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
client = Client(headers={{"host": "localhost"}})
client.force_login(User.objects.get())
counts = {{}}
for name, path in json.loads({pages!r}).items():
    with CaptureQueriesContext(connection) as queries:
        assert client.get(path).status_code == 200, path
    counts[name] = len(queries)
print(json.dumps(counts))
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=100_000, help="finished ones (default 100,000)")
    parser.add_argument("--chunks", type=int, default=50, help="of each (default 50)")
    parser.add_argument("--viewers", type=int, default=20, help="of the front page (default 20)")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    options = parser.parse_args(arguments)
    allow_sockets(1000)
    with tempfile.TemporaryDirectory() as name:
        model = build_tiny_model(Path(name) / "model")
        with scaled(Path(name) / "admin", model, with_worker=False) as stack:
            fill(stack, options.sessions, options.chunks)
            figures = asyncio.run(measure(stack, options.viewers))
    print(json.dumps(figures, indent=2) if options.json else table(figures))
    return int(any(page["median_ms"] > LIMIT_MS for page in figures["pages"].values()))


def fill(stack: ScaledStack, sessions: int, chunks: int) -> None:
    """Finished sessions with their chunks, some that wait, and a month of history."""
    began = time.monotonic()
    for first in range(1, sessions + 1, BATCH):
        last = min(first + BATCH - 1, sessions)
        stack.query(SESSIONS, chunks, chunks * 3, first, last)
        stack.query(CHUNKS, first, last, chunks)
        print(f"\r{last} sessions, {time.monotonic() - began:.0f} s", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    stack.query(WAITING, QUEUED)
    stack.query(FIGURES)
    stack.query("ANALYZE")


async def measure(stack: ScaledStack, viewers: int) -> dict[str, Any]:
    cookie = stack.run_python(LOG_IN).strip()
    pages = {
        "front page": "/admin/",
        "its refresh": "/admin/now/",
        "its refresh, 30 days": "/admin/now/?span=30d",
        "sessions": "/admin/sessions_app/chatsession/",
        "sessions, failed": "/admin/sessions_app/chatsession/?state__exact=failed",
        "session": "/admin/sessions_app/chatsession/old-17/change/",
    }
    feeder(stack, "open", "beside", STREAMS)
    queries = json.loads(stack.run_python(COUNT.format(pages=json.dumps(pages))))
    async with httpx.AsyncClient(base_url=stack.base_url, cookies={"sessionid": cookie}, timeout=60) as client:
        times = {name: await page_times(client, path) for name, path in pages.items()}
        alone = await latency(stack, "alone")
        watching = [asyncio.create_task(watch(client)) for _ in range(viewers)]
        try:
            watched = await latency(stack, "watched")
        finally:
            for viewer in watching:
                viewer.cancel()
            refreshes = [one for each in await asyncio.gather(*watching, return_exceptions=True) for one in _list(each)]
    return {
        "pages": {
            name: {"queries": queries[name], "median_ms": statistics.median(times[name]), "max_ms": max(times[name])}
            for name in pages
        },
        "streams": {"alone": spread(alone), f"with {viewers} viewers": spread(watched)},
        "refreshes of the viewers": spread(refreshes),
    }


async def page_times(client: httpx.AsyncClient, path: str) -> list[float]:
    """Milliseconds of each request; the first warms up. Each finds the cached figures expired and reads them."""
    times = []
    for _ in range(ROUNDS + 1):
        times.append(await _timed(lambda: client.get(path)))
        await asyncio.sleep(VIEWER_SECONDS)
    return times[1:]


async def watch(client: httpx.AsyncClient) -> list[float]:
    """A page that refreshes itself, until it is cancelled."""
    times: list[float] = []
    try:
        while True:
            times.append(await _timed(lambda: client.get("/admin/now/")))
            await asyncio.sleep(VIEWER_SECONDS)
    except asyncio.CancelledError:
        return times


async def _timed(get: Callable[[], Any]) -> float:
    began = time.perf_counter()
    response = await get()
    if response.status_code != httpx.codes.OK:
        raise RuntimeError(f"{response.request.url}: {response.status_code}")
    return (time.perf_counter() - began) * 1000


async def latency(stack: ScaledStack, name: str) -> list[float]:
    """Milliseconds from the commit of each chunk to its event, of streams that grow."""
    feeder(stack, "open", name, STREAMS)
    listeners = await listen(stack.port, [attaching(f"{name}-{number}") for number in range(STREAMS)])
    await asyncio.sleep(VIEWER_SECONDS)
    committed = json.loads(await asyncio.to_thread(feeder, stack, "feed", name, STREAMS, RATE, SECONDS))
    await all_ended(listeners)
    return [
        1000 * (listener.received[index] - commit)
        for listener in listeners
        for index, commit in enumerate(committed, start=1)
    ]


def spread(milliseconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(milliseconds)
    return {"p50_ms": statistics.median(ordered), "p95_ms": ordered[round(0.95 * (len(ordered) - 1))]}


def _list(result: list[float] | BaseException) -> list[float]:
    if isinstance(result, BaseException):
        raise result
    return result


def table(figures: dict[str, Any]) -> str:
    lines = [f"{'page':24}{'queries':>9}{'median ms':>12}{'max ms':>9}"]
    for name, page in figures["pages"].items():
        lines.append(f"{name:24}{page['queries']:9d}{page['median_ms']:12.0f}{page['max_ms']:9.0f}")
    lines.append(f"\n{'':24}{'p50 ms':>9}{'p95 ms':>12}")
    for name, each in {
        **{f"streams {name}": each for name, each in figures["streams"].items()},
        "refreshes of viewers": figures["refreshes of the viewers"],
    }.items():
        lines.append(f"{name:24}{each['p50_ms']:9.1f}{each['p95_ms']:12.1f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
