"""Odd inputs by the thousand: requests made from the API's schema, and nearly good files for everything that reads any.

    python -m benchmarks.fuzz                    # Schemathesis over /openapi.json, five minutes
    python -m benchmarks.fuzz --loaders          # 100,000 inputs for the loaders
    python -m benchmarks.fuzz --loaders --only video --first 1234 --inputs 1

Input n of a seed is always the same. Findings are kept as files, each kind once. The exit status is 0 only when nothing
was found.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

LOADERS = ("image", "video", "data-url", "upstream", "ktp-answer")


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    # A terminated run cleans up like an interrupted one; and a shell starts what is in the background without Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="sambung-fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        wrong = _loaders(options, folder) if options.loaders else _api(options)
    except KeyboardInterrupt:
        print("interrupted; everything that was started is stopped", file=sys.stderr)
        return 1
    for line in wrong:
        print(line)
    if not wrong:
        print("nothing was found")
    return 1 if wrong else 0


def _api(options: argparse.Namespace) -> list[str]:
    from benchmarks.fuzz.api import fuzz_api

    with tempfile.TemporaryDirectory(prefix="sambung-fuzz-api-") as name:
        return fuzz_api(Path(name), seconds=60 * options.minutes, seed=options.seed)


def _loaders(options: argparse.Namespace, folder: Path) -> list[str]:
    from benchmarks.fuzz.inputs import feed

    names = options.only or LOADERS
    end = time.monotonic() + 60 * options.minutes
    wrong = []
    for number, name in enumerate(names):
        count = options.inputs // len(names)
        # Each may take its part of what is left.
        until = time.monotonic() + (end - time.monotonic()) / (len(names) - number)
        started = time.monotonic()
        tally = feed(name, seed=options.seed, first=options.first, count=count, folder=folder, end=until)
        read = sum(tally.counts.values())
        counts = ", ".join(f"{times:,} {kind}" for kind, times in sorted(tally.counts.items()))
        print(f"{name:12}{read:>8,} inputs in {time.monotonic() - started:.0f} s: {counts}", flush=True)
        if read < count:
            wrong.append(f"{name}: the time was over after {read:,} of {count:,} inputs")
        for finding, times in tally.findings.values():
            kept = folder / f"{name}-{finding.kind}-{finding.number}"
            wrong.append(
                f"{name}: {finding.kind} {finding.where}, {times} times, first by input {finding.number}: "
                f"{finding.message} ({kept})"
            )
    return wrong


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--loaders", action="store_true", help="feed the loaders, not the API")
    parser.add_argument("--minutes", type=float, help="for all of it (default 5, with --loaders 30)")
    parser.add_argument("--seed", type=int, default=1, help="draws the inputs (default 1)")
    parser.add_argument("--only", action="append", choices=LOADERS, help="one loader; may come again")
    parser.add_argument("--inputs", type=int, default=100_000, help="for all loaders together (default 100000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first input of each (default 0)")
    parser.add_argument("--folder", type=Path, help="for the findings (default: a new one)")
    options = parser.parse_args(arguments)
    if options.minutes is None:
        options.minutes = 30 if options.loaders else 5
    return options


if __name__ == "__main__":
    sys.exit(main())
