"""Streams under faults: does every client still get every event once, and the text of an undisturbed run?

It starts web processes and workers of its own with the small local model, asks every question once undisturbed, and
then runs the streams while a schedule drawn from the seed kills, freezes and restarts processes and cuts off Redis and
PostgreSQL. PostgreSQL and Redis are those of the tests, on this machine, reached through proxies:

    python -m benchmarks.chaos --streams 200 --faults 30

Exit status 0 only when no event was lost, repeated or out of order, no text differs, and every session completed.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis

from benchmarks.chaos.report import table
from benchmarks.chaos.run import run
from tests import services


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    # A terminated run cleans up like an interrupted one; and a shell starts what is in the background without Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="sambung-chaos-"))
    report: dict[str, Any] = {"clean": False}
    try:
        with contextlib.ExitStack() as running:
            report = run(options, folder, running)
    except KeyboardInterrupt:
        print("interrupted; everything that was started is stopped", file=sys.stderr)
    finally:
        if report["clean"] and not options.keep_logs:
            shutil.rmtree(folder)
        else:
            print(f"the logs are kept in {folder}", file=sys.stderr)
    if len(report) > 1:
        print(json.dumps(report, indent=2) if options.json else table(report))
    return 0 if report["clean"] else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=200, help="sessions that are read (default 200)")
    parser.add_argument("--faults", type=int, default=30, help="faults that are injected (default 30)")
    parser.add_argument("--seed", type=int, default=1, help="draws requests, faults and the clients' drops (default 1)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default 2)")
    parser.add_argument("--webs", type=int, default=2, help="web processes (default 2)")
    parser.add_argument("--at-once", type=int, default=24, help="streams that are open together (default 24)")
    parser.add_argument("--minutes", type=float, default=12, help="after which the run ends unfinished (default 12)")
    parser.add_argument(
        "--redis-url", default="redis://127.0.0.1:6379/14", help="a database that is empty: the faults empty it"
    )
    parser.add_argument("--keep-logs", action="store_true", help="also those of a run in which nothing went wrong")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    options = parser.parse_args(arguments)
    for url in (services.POSTGRES_URL, options.redis_url):
        host = urlsplit(url).hostname or ""
        if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
            parser.error("this breaks things: it runs against PostgreSQL and Redis of this machine only")
    with redis.Redis.from_url(options.redis_url) as broker:
        if broker.dbsize():
            parser.error(f"{options.redis_url} holds something: name a database that is empty with --redis-url")
    return options


if __name__ == "__main__":
    sys.exit(main())
