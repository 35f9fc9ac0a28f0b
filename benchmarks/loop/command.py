"""The command line that benchmarks of hostile requests share."""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.loop.hostile import Hostile
from benchmarks.loop.plan import Plan
from benchmarks.loop.report import Quiet, Row, as_json, header, line, summary
from benchmarks.loop.run import run


def command(plan: Plan, *, program: str, what: str | None, arguments: Sequence[str] | None) -> int:
    """Parse, run and print; the exit status."""
    options, hostiles = _parse(plan, program, what, arguments)
    if options.list:
        for hostile in hostiles:
            print(f"{hostile.name:32}{hostile.what}")
        return 0
    # A terminated run cleans up like an interrupted one; and a shell starts what is in the background without Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="sambung-benchmark-"))
    rows: list[Row] = []
    quiet = Quiet()
    print(header(plan.beside))
    try:
        for found in run(plan, options, hostiles, folder):
            if isinstance(found, Quiet):
                quiet = found
            else:
                rows.append(found)
                print(line(found), flush=True)
    except KeyboardInterrupt:
        print("interrupted; everything that was started is stopped", file=sys.stderr)
        return 1
    finally:
        if options.keep_logs:
            print(f"the logs are kept in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder)
    report = as_json(rows, quiet, {"streams": options.streams, "shape": "scaled" if options.scaled else "embedded"})
    print(summary(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 1 if report["with_faults"] else 0


def _parse(
    plan: Plan, program: str, what: str | None, arguments: Sequence[str] | None
) -> tuple[argparse.Namespace, list[Hostile]]:
    """The options, and the requests that they choose."""
    parser = argparse.ArgumentParser(
        prog=program, description=what, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="a request, or a pattern like 'multipart-*'; may come again"
    )
    parser.add_argument("--list", action="store_true", help="print the requests and send none")
    parser.add_argument("--streams", type=int, default=20, help="streams that are open meanwhile (default 20)")
    parser.add_argument(
        "--scaled", action="store_true", help="web process and worker on PostgreSQL and Redis; else all in one process"
    )
    parser.add_argument(
        "--minutes", type=float, default=plan.minutes, help=f"after which no more is sent (default {plan.minutes:g})"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file too")
    parser.add_argument("--keep-logs", action="store_true", help="keep the server's logs")
    options = parser.parse_args(arguments)
    hostiles: list[Hostile] = importlib.import_module(plan.catalogue).catalogue()
    for pattern in options.only or ():
        if not fnmatch.filter([hostile.name for hostile in hostiles], pattern):
            parser.error(f"there is no request {pattern}; --list prints them")
    if options.only:
        hostiles = [one for one in hostiles if any(fnmatch.fnmatchcase(one.name, pattern) for pattern in options.only)]
    return options, hostiles
