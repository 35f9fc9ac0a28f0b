"""Does anything that a stranger sends hold up the server's loop?

It starts a server of its own with the small local model, keeps streams open, asks /health every 20 ms from a process of
its own, and sends one hostile request after the other from another. Everything is on this machine and ends with it:

    python -m benchmarks.loop
    python -m benchmarks.loop --only numbers-100k --only 'multipart-19mb /health'
    python -m benchmarks.loop --scaled --json loop.json

Exit status 0 only when every probe was answered within 100 ms, every request as it should be, and no request took more
memory than it may.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.loop.catalogue import catalogue
from benchmarks.loop.hostile import Hostile
from benchmarks.loop.report import HEADER, Quiet, Row, as_json, line, summary
from benchmarks.loop.run import run


def main(arguments: Sequence[str] | None = None) -> int:
    options, hostiles = parse(arguments)
    if options.list:
        for hostile in hostiles:
            print(f"{hostile.name:32}{hostile.what}")
        return 0
    # A terminated run cleans up like an interrupted one; and a shell starts what is in the background without Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="sambung-loop-"))
    rows: list[Row] = []
    quiet = Quiet()
    print(HEADER)
    try:
        for found in run(options, hostiles, folder):
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


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[Hostile]]:
    """The options, and the requests that they choose."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loop", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="a request, or a pattern like 'multipart-*'; may come again"
    )
    parser.add_argument("--list", action="store_true", help="print the requests and send none")
    parser.add_argument("--streams", type=int, default=20, help="streams that are open meanwhile (default 20)")
    parser.add_argument(
        "--scaled", action="store_true", help="web process and worker on PostgreSQL and Redis; else all in one process"
    )
    parser.add_argument("--minutes", type=float, default=20, help="after which no more is sent (default 20)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file too")
    parser.add_argument("--keep-logs", action="store_true", help="keep the server's logs")
    options = parser.parse_args(arguments)
    hostiles = catalogue()
    for pattern in options.only or ():
        if not fnmatch.filter([hostile.name for hostile in hostiles], pattern):
            parser.error(f"there is no request {pattern}; --list prints them")
    if options.only:
        hostiles = [one for one in hostiles if any(fnmatch.fnmatchcase(one.name, pattern) for pattern in options.only)]
    return options, hostiles


if __name__ == "__main__":
    sys.exit(main())
