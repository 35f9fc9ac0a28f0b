"""Can an untrusted request block the server's event loop?

It starts a server of its own with the small local model, keeps streams open, asks /health every 20 ms from a process of
its own, and sends one hostile request after another from a third one. Everything is on this machine and ends with it:

    python -m benchmarks.loop
    python -m benchmarks.loop --only numbers-100k --only 'multipart-19mb /health'
    python -m benchmarks.loop --scaled --json loop.json

Exit status 0 only when every probe was answered within 100 ms, every request as it should be, and no request took more
memory than it may.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.loop.command import command
from benchmarks.loop.plan import Plan
from benchmarks.loop.report import Goals

PLAN = Plan("benchmarks.loop.catalogue", Goals())


def main(arguments: Sequence[str] | None = None) -> int:
    return command(PLAN, program="python -m benchmarks.loop", what=__doc__, arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
