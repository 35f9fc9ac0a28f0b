"""What encryption costs a commit of chunks: private and plain sessions in turn, on the database of the settings.

    SESSIONS_DB_PATH=/tmp/sealing.db python -m benchmarks.sealing --rows 4
    DATABASE_URL=postgres://… python -m benchmarks.sealing --rows 4

It migrates the database, and removes its sessions at the end.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence

from sessions_app.encryption.keyring import new_item

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ.setdefault("SECRET_KEY", "signs-nothing")
os.environ.setdefault("DATA_KEYS", new_item("benchmark"))

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402

from sessions_app import wakeups  # noqa: E402  (models need the settings)
from sessions_app.deltas import StoredTokenLogprob  # noqa: E402
from sessions_app.encryption import sealed  # noqa: E402
from sessions_app.models import ChatSession  # noqa: E402
from sessions_app.store import appending, opening, queue, transitions  # noqa: E402
from sessions_app.store.appending import Append, Piece  # noqa: E402

#: tokens of one session between two commits, as at 200 tokens a second
TOKENS = 6
SEALS = 500


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4, help="sessions of a commit (default 4)")
    parser.add_argument("--commits", type=int, default=300, help="commits of each kind (default 300)")
    options = parser.parse_args(arguments)
    call_command("migrate", verbosity=0)
    # Only the commit is measured.
    setattr(wakeups, "publish", lambda wakeups: None)  # noqa: B010
    setattr(queue, "send", lambda session_id: None)  # noqa: B010
    origins = {"plain": "chat", "private": "ocr"}
    names = {kind: [f"sealing-{kind}-{row}" for row in range(options.rows)] for kind in origins}
    try:
        for kind, origin in origins.items():
            for name in names[kind]:
                opening.open_session(session_id=name, request={}, request_digest="", model="none", origin=origin)
                transitions.claim(name, worker="benchmark")
        took = measure(names, options.commits)
        report(took)
    finally:
        ChatSession.objects.filter(pk__in=[name for group in names.values() for name in group]).delete()
    return 0


def measure(names: dict[str, list[str]], commits: int) -> dict[str, list[float]]:
    """Seconds of each commit, the kinds in turn, so that a slow moment of the machine slows both."""
    took: dict[str, list[float]] = {kind: [] for kind in names}
    pieces = [piece()]
    for commit in range(commits):
        for kind, group in names.items():
            items = [Append(name, 1, 1 + commit, pieces, is_sealed=kind == "private") for name in group]
            began = time.perf_counter()
            lost = appending.append(items)
            took[kind].append(time.perf_counter() - began)
            if lost:
                raise RuntimeError(f"lost {len(lost)} sessions; is a worker at them?")
    return took


def piece() -> Piece:
    """As the reader of cards writes it: with the two likeliest alternatives of each token."""
    logprobs: list[StoredTokenLogprob] = [
        {
            "token": "ab",
            "bytes": [97, 98],
            "logprob": -0.0125,
            "top": [{"token": "ab", "bytes": [97, 98], "logprob": -1.25} for _ in range(3)],
        }
        for _ in range(TOKENS)
    ]
    return Piece({"type": "text", "text": "ab" * TOKENS, "logprobs": logprobs}, [7] * TOKENS)


def report(took: dict[str, list[float]]) -> None:
    plain, private = (statistics.median(took[kind]) * 1e6 for kind in ("plain", "private"))
    began = time.perf_counter()
    delta = piece().delta
    for _ in range(SEALS):
        sealed.open_json(sealed.seal_json(delta, "table.column"), "table.column")
    sealing = (time.perf_counter() - began) / SEALS * 1e6
    print(f"{connection.vendor}, {len(took['plain'])} commits of each kind, median:")
    print(f"  plain    {plain:8,.0f} µs")
    print(f"  private  {private:8,.0f} µs, {private / plain:.2f} times as long")
    print(f"  to seal and open one chunk: {sealing:,.0f} µs")


if __name__ == "__main__":
    sys.exit(main())
