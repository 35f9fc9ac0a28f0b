"""What serving costs: the same load over HTTP, embedded and scaled, beside the engine in this process.

It starts servers of its own with the small local model, on this machine, and stops them. PostgreSQL is that of
``TESTS_POSTGRES_URL``; Redis is started on a free port. Engine and servers take turns within a round. Several streams
arrive in the same millisecond, and then, measured apart, one after the other:

    python -m benchmarks.serve
    python -m benchmarks.serve --streams 1,8,16 --rounds 3 --json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.engine.contestants import EngineContestant
from benchmarks.engine.questions import ask
from benchmarks.serve.report import SETTINGS, Cell, figures, table
from benchmarks.serve.servers import Server, start_embedded, start_scaled
from inference.engine.engine import Engine
from inference.engine.loading import load_model
from inference.engine.types import GenerationRequest
from inference.tiny_models.vision import build_tiny_model

IMAGE_SIZE = (256, 192)
WARM_UP_TOKENS = 32


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    deadline = time.monotonic() + 60 * options.minutes
    with contextlib.ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="sambung-serve-")))
        model = build_tiny_model(folder / "model")
        torch.set_num_threads(1)
        engine = Engine(
            load_model(str(model), dtype="float32", device_map="cpu"),
            max_batch_size=max(options.streams),
            torch_threads=1,
        )
        running.callback(engine.stop)
        engine.start()
        settings = SETTINGS | {"MAX_BATCH_SIZE": max(options.streams)}
        contestants: list[EngineContestant | Server] = [
            EngineContestant(engine),
            EngineContestant(engine, thread_a_reader=True),
            *(
                running.enter_context(start(folder / start.__name__, model, settings))
                for start in (start_embedded, start_scaled)
            ),
        ]
        runs = measure(contestants, options, deadline)
    report = figures(runs, {"tokens_a_stream": options.tokens, "media": options.media, "settings": settings})
    print(json.dumps(report, indent=2) if options.json else table(report))
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=numbers, default="1,8", help="streams at once (default 1,8)")
    parser.add_argument(
        "--every-ms", type=float, default=100, help="between two arrivals that are not at once (default 100)"
    )
    parser.add_argument("--tokens", type=int, default=512, help="that each stream generates (default 512)")
    parser.add_argument("--media", choices=("text", "image"), default="text", help="text or image (default text)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default 5)")
    parser.add_argument("--minutes", type=float, default=4, help="after which no round is begun (default 4)")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    return parser.parse_args(arguments)


def numbers(text: str) -> list[int]:
    found = sorted({int(part) for part in text.split(",")})
    if found[0] < 1:
        raise ValueError(text)
    return found


def measure(
    contestants: Sequence[EngineContestant | Server], options: argparse.Namespace, deadline: float
) -> dict[Cell, list[dict[str, Any]]]:
    """What each round found."""
    runs: dict[Cell, list[dict[str, Any]]] = {}
    draw = 0
    for streams in options.streams:
        for every_ms in (0.0, options.every_ms) if streams > 1 else (0.0,):
            for number in range(options.rounds + 1):
                if number > 1 and time.monotonic() > deadline:
                    break
                draw += 1
                # What a process loads and connects for its first streams is not measured.
                tokens = options.tokens if number else WARM_UP_TOKENS
                requests = ask(options.media, streams, tokens=tokens, draw=draw, image_size=IMAGE_SIZE)
                turn = number % len(contestants)
                for contestant in [*contestants[turn:], *contestants[:turn]]:
                    found = run_one(contestant, requests, every_ms / 1000)
                    if number:
                        runs.setdefault(Cell(contestant.name, streams, every_ms), []).append(found)
    return runs


def run_one(
    contestant: EngineContestant | Server, requests: Sequence[GenerationRequest], every_seconds: float
) -> dict[str, Any]:
    if isinstance(contestant, Server):
        return contestant.run(requests, every_seconds=every_seconds)
    run = contestant.run(requests, [number * every_seconds for number in range(len(requests))])
    return {"rate": run.rate, "first_seconds": list(run.first_token_seconds), "cores": {}}


if __name__ == "__main__":
    sys.exit(main())
