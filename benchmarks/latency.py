"""How soon a server answers and stops: time to first token, and from a cancel to the end of the stream.

Run it against a server on this machine, in any shape, for example that of ``make demo``:

    python -m benchmarks.latency --base-url http://127.0.0.1:3000
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx

BODY: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Ceritakan sesuatu."}],
    "stream": True,
    "ignore_eos": True,
    "max_tokens": 3000,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", default="http://127.0.0.1:3000")
    parser.add_argument("--runs", type=int, default=20, help="sessions that are started and cancelled (default 20)")
    parser.add_argument("--beside", type=int, default=0, help="other sessions that run meanwhile (default none)")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    options = parser.parse_args(arguments)
    host = urlsplit(options.base_url).hostname or ""
    if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
        parser.error("this makes load: it runs against this machine only")

    with httpx.Client(base_url=options.base_url, timeout=60) as http:
        beside = [start_beside(options.base_url, number) for number in range(options.beside)]
        runs = [measure(http) for _ in range(options.runs)]
        for session_id, thread in beside:
            http.post(f"/v1/cancel/{session_id}")
            thread.join(10)
    figures = {name: summary([run[name] for run in runs]) for name in ("first_token_ms", "cancel_ms")}
    if options.json:
        print(json.dumps({"runs": options.runs, "beside": options.beside, **figures}, indent=2))
        return 0
    print(f"{options.runs} sessions, {options.beside} beside them\n")
    print(f"{'':24}{'p50':>10}{'p95':>10}{'max':>10}")
    for name, label in (("first_token_ms", "time to first token"), ("cancel_ms", "cancel to end of stream")):
        print(f"{label:24}" + "".join(f"{figures[name][part]:7.0f} ms" for part in ("p50", "p95", "max")))
    return 0


def measure(http: httpx.Client) -> dict[str, float]:
    """One session, cancelled at its fifth event. Milliseconds."""
    started = time.perf_counter()
    first_token = cancelled = 0.0
    with http.stream("POST", "/v1/chat/completions", json=BODY) as response:
        response.raise_for_status()
        session_id = response.headers["X-Session-ID"]
        events = 0
        for line in response.iter_lines():
            events += line.startswith("data: ")
            if events == 2 and not first_token:
                first_token = time.perf_counter()
            if events == 5 and not cancelled:
                cancelled = time.perf_counter()
                httpx.post(f"{http.base_url}/v1/cancel/{session_id}".replace("//v1", "/v1"), timeout=10)
    ended = time.perf_counter()
    return {"first_token_ms": 1000 * (first_token - started), "cancel_ms": 1000 * (ended - cancelled)}


def start_beside(base_url: str, number: int) -> tuple[str, threading.Thread]:
    """A session that runs while others are measured; cancelled at the end, and of bounded length in any case."""
    session_id = f"beside-{number}-{time.time_ns()}"

    def read() -> None:
        with httpx.stream(
            "POST", f"{base_url}/v1/chat/completions", json=BODY | {"session_id": session_id}, timeout=120
        ) as response:
            for _ in response.iter_lines():
                pass

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return session_id, thread


def summary(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    return {"p50": statistics.median(ordered), "p95": p95, "max": ordered[-1]}


if __name__ == "__main__":
    sys.exit(main())
