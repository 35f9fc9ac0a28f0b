"""What serving costs: the same load over HTTP, embedded and scaled, beside the engine in this process.

It starts servers of its own with the small local model, on this machine, and stops them. PostgreSQL is that of
``TESTS_POSTGRES_URL``; Redis is started on a free port. Engine and servers take turns within a round. Several streams
arrive in the same millisecond, and then, measured apart, one after the other:

    python -m benchmarks.serve
    python -m benchmarks.serve --streams 1,8,16 --rounds 3 --json

With --against, the same beside another project's server, in turns within a round, on the same weights and prompts, with
texts and with images that all arrive at once. vLLM gets a virtual environment of its own (about 3 GB) the first time:

    python -m benchmarks.serve --against vllm
    python -m benchmarks.serve --against vllm --model small --streams 1,8 --shapes scaled --json figures.json
    python -m benchmarks.serve --against transformers --media text --streams 1,8
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from benchmarks.engine.contestants import EngineContestant
from benchmarks.engine.models import model_folder, shape_of
from benchmarks.engine.questions import Media, ask
from benchmarks.engine.runs import LeftOut
from benchmarks.serve import comparison
from benchmarks.serve.against import SHAPES, compare
from benchmarks.serve.peers import PEERS
from benchmarks.serve.report import SETTINGS, Cell, figures, table
from benchmarks.serve.servers import Server
from inference.engine.engine import Engine
from inference.engine.loading import load_model
from inference.engine.types import GenerationRequest

#: by name; `small-wide` is for the engine alone
MODELS = ("tiny", "small", "2b")
WARM_UP_TOKENS = 32


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    # A terminated run stops what it has started, like an interrupted one.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return main_against(options) if options.against else main_alone(options)
    except KeyboardInterrupt:
        print("interrupted; everything that was started is stopped", file=sys.stderr)
        return 1


def main_alone(options: argparse.Namespace) -> int:
    """Beside the engine in this process."""
    deadline = time.monotonic() + 60 * options.minutes
    with contextlib.ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="sambung-serve-")))
        model = running.enter_context(
            model_folder(options.model, device="cpu", dtype=getattr(torch, options.dtype))
        ).absolute()
        if options.torch_threads:
            torch.set_num_threads(options.torch_threads)
        engine = Engine(
            load_model(str(model), dtype=options.dtype, device_map="cpu", quantization=options.quantization),
            max_batch_size=max(options.streams),
            torch_threads=options.torch_threads or None,
        )
        running.callback(engine.stop)
        engine.start()
        settings = settings_of(options)
        contestants: list[EngineContestant | Server] = [
            EngineContestant(engine),
            EngineContestant(engine, thread_a_reader=True),
            *(running.enter_context(SHAPES[shape](folder / shape, model, settings)) for shape in options.shapes),
        ]
        runs = measure(contestants, options, deadline)
    about = {"tokens_a_stream": options.tokens, "media": ",".join(options.media), "settings": settings}
    show(figures(runs, about), table, options.json)
    return 0


def main_against(options: argparse.Namespace) -> int:
    """Exit status 1 when the peer does not start, or ours fails."""
    try:
        found = compare(options, shape_of(options.model).image_size, settings_of(options))
    except LeftOut as reason:
        print(f"{options.against}: {reason}", file=sys.stderr)
        return 1
    show(found.figures(), comparison.table, options.json)
    return 1 if any(name != found.peer for name, _ in found.failed) else 0


def show(report: dict[str, Any], as_table: Callable[[dict[str, Any]], str], to: str | None) -> None:
    """Print the table, or JSON for ``-``; any other name is a file that gets JSON beside the table."""
    if to == "-":
        print(json.dumps(report, indent=2))
        return
    print(as_table(report))
    if to:
        Path(to).write_text(json.dumps(report, indent=2) + "\n")


def settings_of(options: argparse.Namespace) -> dict[str, object]:
    """Of our servers."""
    return SETTINGS | {
        "MAX_BATCH_SIZE": max(options.streams),
        "TORCH_THREADS": options.torch_threads,
        # Beside eight bits our own choice.
        "TORCH_DTYPE": options.dtype if options.quantization == "none" else "auto",
        "QUANTIZATION": options.quantization,
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", choices=list(PEERS), help="measure beside it, and not beside the engine")
    parser.add_argument(
        "--model",
        default="tiny",
        help="tiny (1.5 million random weights, the default), small (50 million), 2b (the configuration of Qwen3-VL-2B;"
        " 8.5 GB a server in float32), or a model's folder",
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="default float32")
    parser.add_argument(
        "--quantization", choices=("none", "8bit"), default="none", help="of our weights, not theirs (default none)"
    )
    parser.add_argument(
        "--torch-threads",
        type=int,
        default=1,
        help="of each server, theirs too (default 1); 0 leaves it to each, which for theirs means all cores",
    )
    parser.add_argument(
        "--shapes", type=listed(SHAPES), default=list(SHAPES), help="ours: embedded, scaled or both (default both)"
    )
    parser.add_argument("--streams", type=numbers, help="streams at once (default 1,8; with --against 1,8,32)")
    parser.add_argument(
        "--every-ms",
        type=float,
        default=100,
        help="between two arrivals that are not at once (default 100; not with --against)",
    )
    parser.add_argument(
        "--tokens", type=int, help="that each stream generates (default 512; with --against 128, and 32 for small)"
    )
    parser.add_argument(
        "--media", type=listed(get_args(Media)), help="text, image or both (default text; with --against both)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default 5)")
    parser.add_argument(
        "--minutes", type=float, help="of measuring, after which no round is begun (default 4; with --against 15)"
    )
    parser.add_argument(
        "--json", nargs="?", const="-", help="print JSON, not a table; with a file's name both: JSON goes there"
    )
    options = parser.parse_args(arguments)
    if options.model not in MODELS and not Path(options.model).is_dir():
        parser.error(f"--model is {options.model}: neither one of {', '.join(MODELS)} nor a folder")
    beside_peer, beside_engine = (
        {
            "streams": [1, 8, 32],
            "tokens": shape_of(options.model).tokens,
            "media": list(get_args(Media)),
            "minutes": 15.0,
        },
        {"streams": [1, 8], "tokens": 512, "media": ["text"], "minutes": 4.0},
    )
    for name, value in (beside_peer if options.against else beside_engine).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if len(options.media) > 1 and not options.against:
        parser.error("--media takes one kind without --against")
    return options


def numbers(text: str) -> list[int]:
    found = sorted({int(part) for part in text.split(",")})
    if found[0] < 1:
        raise ValueError(text)
    return found


def listed(known: Iterable[str]) -> Callable[[str], list[str]]:
    """A list with commas of what is known, in the known order."""

    def names(text: str) -> list[str]:
        if unknown := set(text.split(",")) - set(known):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not of {', '.join(known)}")
        return [name for name in known if name in text.split(",")]

    return names


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
                requests = ask(
                    options.media[0],
                    streams,
                    tokens=tokens,
                    draw=draw,
                    image_size=shape_of(options.model).image_size,
                )
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
