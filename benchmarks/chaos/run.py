"""One run: the questions undisturbed, then the streams under the faults, then the figures."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from benchmarks.chaos.clients import SILENCE_SECONDS, Client, draw_questions, run_streams
from benchmarks.chaos.faults import Injector, draw_faults
from benchmarks.chaos.report import compare
from benchmarks.chaos.stack import ChaosStack
from tests import services
from tests.faults.proxy import Proxy


def run(options: argparse.Namespace, folder: Path, running: contextlib.ExitStack) -> dict[str, Any]:
    """The whole run. What it starts is stopped by ``running``."""
    begun_at = time.monotonic()
    deadline = begun_at + 60 * options.minutes
    rng = random.Random(options.seed)
    targets = {"database": urlsplit(services.POSTGRES_URL), "broker": urlsplit(options.redis_url)}
    ports = {"database": 5432, "broker": 6379}
    proxies = {
        name: running.enter_context(Proxy(parts.hostname or "", parts.port or ports[name]))
        for name, parts in targets.items()
    }
    stack = ChaosStack(folder, redis_url=options.redis_url, webs=options.webs, workers=options.workers, **proxies)
    running.callback(stack.stop_all)
    http = running.enter_context(
        httpx.Client(timeout=SILENCE_SECONDS, limits=httpx.Limits(max_connections=None, max_keepalive_connections=0))
    )
    injector = Injector(stack)
    running.callback(injector.stop)
    # A second Ctrl-C does not stop the stopping.
    running.callback(signal.signal, signal.SIGINT, signal.SIG_IGN)
    stack.start_all()

    questions = draw_questions(rng)[: options.streams]
    alone = (
        Client(http, stack.urls, question | {"session_id": f"undisturbed-{number}"}, None)
        for number, question in enumerate(questions)
    )
    undisturbed = run_streams(alone, len(questions), 8, lambda ended, open_streams: True, deadline)
    expected = [client.said() for client in undisturbed]
    if not all(client.is_done() for client in undisturbed):
        raise RuntimeError("the streams did not come to their ends even undisturbed")

    faults = draw_faults(rng, options.faults, streams=options.streams, stack=stack)
    injected: list[dict[str, Any]] = []
    disturbed_at = time.monotonic()

    def tick(ended: int, open_streams: int) -> bool:
        injector.look_after_processes()
        if not faults or ended < faults[0].after:
            return True
        if (fault := injector.aimed(faults[0])) is None:
            # It waits for something to break, and the streams that it is to meet wait with it.
            return ended + open_streams < faults[0].after + options.at_once
        if 2 * open_streams >= options.at_once or ended + open_streams == options.streams:
            faults.popleft()
            injector.inject(fault)
            at = time.monotonic() - disturbed_at
            injected.append(dataclasses.asdict(fault) | {"at": round(at, 1), "open_streams": open_streams})
        return True

    disturbed = (
        Client(
            http,
            stack.urls,
            questions[number % len(questions)] | {"session_id": f"chaos-{number}"},
            random.Random(f"{options.seed}-{number}"),
        )
        for number in range(options.streams)
    )
    clients = run_streams(disturbed, options.streams, options.at_once, tick, deadline)
    seconds = time.monotonic() - disturbed_at
    worst = max(clients, key=lambda client: client.worst_pause)
    injector.stop()
    for proxy in proxies.values():
        proxy.cut()  # nothing is written any more
    tally, wrong = compare(clients, expected, stack, total=options.streams)
    [(attempts, max_attempts, lost_workers)] = stack.query(
        "SELECT sum(attempt), max(attempt), sum(workers_lost) FROM sessions_app_chatsession WHERE id LIKE ?",
        "chaos-%",
    )
    return {
        "clean": tally.is_clean and len(injected) == options.faults,
        "seed": options.seed,
        "seconds": round(seconds, 1),
        **dataclasses.asdict(tally),
        "events": sum(len(client.events) for client in clients),
        "faults": len(injected),
        "faults_by_kind": dict(Counter(fault["kind"] for fault in injected)),
        "fewest_streams_open_at_a_fault": min((fault["open_streams"] for fault in injected), default=0),
        "worst_pause_s": round(worst.worst_pause, 2),
        "worst_pause_of": worst.session_id,
        "worst_pause_began_at": round(worst.paused_after - disturbed_at, 1),
        "resumes": sum(client.came_back for client in clients),
        "resumes_by_choice": sum(client.left for client in clients),
        "worker_attempts": attempts,
        "max_attempts_of_a_session": max_attempts,
        "attempts_lost_in_silence": lost_workers,
        "slowest_stop_s": round(injector.slowest_stop[1], 2),
        "slowest_stop_of": injector.slowest_stop[0],
        "troubles": injector.troubles,
        "wrong": wrong,
        "schedule": injected,
    }
