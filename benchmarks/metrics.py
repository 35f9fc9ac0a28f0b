"""What the metrics cost where tokens are made: for one commit of many sessions, beside the engine's own steps.

    python -m benchmarks.metrics --rows 16

It runs the engine with the small local model and measures its step, and then what ``inference.metrics`` does at a
commit of as many sessions: in a process that keeps its metrics, and in one with ``METRICS_DIR``.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

COMMITS = 2000
ANSWER_TOKENS = 200


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=16, help="sessions that run at once (default 16)")
    parser.add_argument("--commits", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.commits:
        print(commit_microseconds(options.rows))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        step = step_microseconds(Path(folder), options.rows)
        print(f"a decode step of {options.rows} rows: {step:,.0f} µs")
        for name, directory in (("one process", ""), ("METRICS_DIR", str(Path(folder) / "metrics"))):
            cost = in_process_of_its_own(options.rows, directory)
            # The first tokens apart, a commit takes CHUNK_COMMIT_SECONDS of steps; at worst it is one.
            print(f"{name}: {cost:.0f} µs a commit, {cost / step:.2%} of one step, {cost / 30_000:.2%} of 30 ms")
    return 0


def step_microseconds(folder: Path, rows: int) -> float:
    """The median of the time between two tokens of a row, while all rows decode."""
    from inference.engine.engine import Engine
    from inference.engine.loading import load_model
    from inference.engine.types import GenerationRequest, Sampling
    from inference.tiny_models.vision import build_tiny_model

    engine = Engine(load_model(str(build_tiny_model(folder / "tiny"))), max_batch_size=rows, torch_threads=1)
    engine.start()
    asked = [{"role": "user", "content": "Ceritakan sesuatu."}]
    sampling = Sampling(max_tokens=ANSWER_TOKENS, ignore_eos=True)
    handles = [engine.submit(GenerationRequest(asked, sampling)) for _ in range(rows)]
    came = [time.perf_counter() for _ in handles[0]]
    engine.stop()
    return statistics.median(later - earlier for earlier, later in itertools.pairwise(came)) * 1e6


def in_process_of_its_own(rows: int, metrics_dir: str) -> float:
    """``commit_microseconds`` there: how values are kept is settled when ``prometheus_client`` is imported."""
    command = [sys.executable, "-m", "benchmarks.metrics", "--commits", "--rows", str(rows)]
    done = subprocess.run(
        command, env={**os.environ, "METRICS_DIR": metrics_dir}, capture_output=True, text=True, check=True, timeout=120
    )
    return float(done.stdout)


def commit_microseconds(rows: int) -> float:
    """The median of what is done at a commit for sessions with six new tokens each."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ.setdefault("SECRET_KEY", "signs-nothing")
    django.setup()
    from django.utils import timezone

    from inference.metrics import AttemptTimes, commit_time, fenced_appends
    from sessions_app.models import ChatSession
    from sessions_app.store.appending import Append, Piece

    now = timezone.now()
    runs = [AttemptTimes(ChatSession(id=f"s{row}", created_at=now, started_at=now, attempt=1)) for row in range(rows)]
    item = Append("s", 1, 1, (Piece({"type": "text", "text": "x" * 20}, range(6)),))
    took = []
    for _ in range(COMMITS):
        began = time.perf_counter()
        with commit_time.time():
            pass
        fenced_appends.inc(0)
        for run in runs:
            run.committed(item)
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1e6


if __name__ == "__main__":
    sys.exit(main())
