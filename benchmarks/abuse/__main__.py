"""What can one greedy caller cost the server, and all other callers?

It starts a server of its own with the small local model, keeps streams open, and sends one abusive request, or one
flood of them, after another: pictures and videos that are small as files and large in memory or long to decode, media
servers that never end, long texts, many sessions, many listeners. Meanwhile others ask /health, for a chat, for a chat
about a picture behind a URL, and for the reading of a card. Everything is on this machine and ends with it:

    python -m benchmarks.abuse
    python -m benchmarks.abuse --only 'ktp-*' --only webp-16
    python -m benchmarks.abuse --json abuse.json

Exit status 0 only when every request was answered within 15 s, took at most 512 MB, and no other caller was held up:
/health under 200 ms, the streams' gaps within twice the quiet ones, every neighbour answered within 15 s.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.loop.command import command
from benchmarks.loop.plan import Plan
from benchmarks.loop.report import Goals
from benchmarks.loop.stack import FedEmbeddedStack


class AbusedStack(FedEmbeddedStack):
    program = "benchmarks.abuse.served"


PLAN = Plan(
    catalogue="benchmarks.abuse.catalogue",
    goals=Goals(health_ms=200.0, seconds=15.0, gaps_ratio=2.0),
    memory="pss",
    memory_limit_mb=4096.0,
    embedded=AbusedStack,
    neighbours="benchmarks.abuse.neighbours",
    beside=("chat", "url", "ktp"),
    minutes=25.0,
)


def main(arguments: Sequence[str] | None = None) -> int:
    return command(PLAN, program="python -m benchmarks.abuse", what=__doc__, arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
