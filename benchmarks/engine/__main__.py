"""How fast is the engine, and beside what? All contestants in one run, on the same model and prompts.

The engine against one static ``model.generate`` batch of the same size (all known beforehand, padded: the ceiling),
``generate`` in a thread a request, ``transformers serve``, and the engine with a JSON schema on every row. Every
answer is greedy and has the same number of tokens; preparing the prompts counts for all. Nothing is downloaded: the
models have random weights.

    python -m benchmarks.engine
    python -m benchmarks.engine --model small --rows 1,8 --skip generate-a-thread,transformers-serve
    python -m benchmarks.engine --model 2b --device cuda --rows 1,2,4,8,16,32,64 --json figures.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from benchmarks.engine.bandwidth import copy_bandwidth, decoder_weights, peak_operations
from benchmarks.engine.contestants import EngineContestant, GenerateAThread, StaticBatch
from benchmarks.engine.measure import WARM_UP_TOKENS, Plan, measure
from benchmarks.engine.models import SHAPES, model_folder, shape_of
from benchmarks.engine.questions import SCHEMA, Media, ask
from benchmarks.engine.report import WITH_SCHEMA, figures, table
from benchmarks.engine.runs import Contestant, LeftOut
from benchmarks.engine.transformers_serve import TransformersServe
from inference.engine.engine import Engine
from inference.engine.loading import LoadedModel, load_model
from inference.engine.types import Constraint

CONTESTANTS = (
    "engine",
    "engine-thread-a-reader",
    "engine-with-a-schema",
    "static-batch",
    "generate-a-thread",
    "transformers-serve",
)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    quiet_libraries()
    shape = shape_of(options.model)
    cores = os.cpu_count() or 1
    on_cpu = options.device == "cpu"
    threads = options.torch_threads or (shape.torch_threads if on_cpu else 0) or cores
    torch.set_num_threads(threads)
    tokens = options.tokens or shape.tokens
    plan = Plan(
        rows=options.rows,
        media=options.media,
        rounds=options.rounds,
        tokens=tokens,
        warm_up_tokens=min(tokens, WARM_UP_TOKENS) if on_cpu else tokens,
        patience=options.patience,
        deadline=time.monotonic() + 60 * options.minutes,
    )
    with contextlib.ExitStack() as running:
        tell(f"making the model {options.model}")
        folder = running.enter_context(
            model_folder(options.model, device=options.device, dtype=getattr(torch, options.dtype))
        )
        loaded = load_model(str(folder), dtype=options.dtype, device_map=options.device)
        # The engine might take all memory that is left.
        bound = bounds(loaded, threads)
        left_out: dict[str, str] = {}
        contestants = list(enter(running, loaded, folder, options, threads, left_out))
        found = measure(contestants, plan, lambda *what: make_requests(shape.image_size, *what), tell)
        found.left_out |= left_out
        about = {
            "model": options.model,
            "device": torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device,
            "dtype": options.dtype,
            "torch": torch.__version__,
            "torch_threads": threads,
            "torch_threads_that_won": winning_threads(contestants),
            "cores": cores,
            "tokens_a_request": tokens,
            "rounds": options.rounds,
        }
    report = figures(found, plan, about, bound)
    tell("")
    if options.json == "-":
        print(json.dumps(report, indent=2))
    else:
        print(table(report))
        if options.json:
            Path(options.json).write_text(json.dumps(report, indent=2) + "\n")
    return 1 if any(name.startswith("engine") for name, _ in found.failed) else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model",
        default="tiny",
        help="tiny (1.5 million random weights, the default), small (50 million), small-wide (small, with a vocabulary"
        " of 151,936), 2b (the configuration of Qwen3-VL-2B; for a GPU), or a model's folder",
    )
    parser.add_argument("--device", default="cpu", help="cpu (the default), cuda or cuda:1")
    parser.add_argument("--dtype", help="of torch; default float32 on cpu, else bfloat16")
    parser.add_argument(
        "--rows", type=numbers, default="1,2,4,8,16,32", help="requests at once (default 1,2,4,8,16,32; 1 is always in)"
    )
    parser.add_argument("--tokens", type=int, help="that each request generates (default 128; 32 for small)")
    parser.add_argument("--media", type=media, default="text,image", help="text, image or both (default both)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default 3)")
    parser.add_argument(
        "--torch-threads",
        type=int,
        help="threads of torch (default 1 for tiny, else all cores); the baselines in this process also run with all"
        " cores, and the faster run of each round counts",
    )
    parser.add_argument("--skip", type=names, default=(), help=f"contestants to leave out, of {','.join(CONTESTANTS)}")
    parser.add_argument(
        "--patience",
        type=float,
        default=3.0,
        help="seconds for one figure of a contestant that generates one answer after the other, which at many rows is"
        " slow (default 3)",
    )
    parser.add_argument("--minutes", type=float, default=4.5, help="after which nothing is begun (default 4.5)")
    parser.add_argument(
        "--json", nargs="?", const="-", help="print JSON, not a table; with a file's name both: JSON goes there"
    )
    options = parser.parse_args(arguments)
    if options.model not in SHAPES and not Path(options.model).is_dir():
        parser.error(f"--model is {options.model}: neither one of {', '.join(SHAPES)} nor a folder")
    options.dtype = options.dtype or ("float32" if options.device == "cpu" else "bfloat16")
    return options


def numbers(text: str) -> list[int]:
    found = {int(part) for part in text.split(",")} | {1}
    if min(found) < 1:
        raise ValueError(text)
    return sorted(found)


def media(text: str) -> list[Media]:
    return [kind for kind in get_args(Media) if kind in names(text, get_args(Media))]


def names(text: str, known: Sequence[str] = CONTESTANTS) -> list[str]:
    found = text.split(",")
    if unknown := [name for name in found if name not in known]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not of {', '.join(known)}")
    return found


def make_requests(image_size: tuple[int, int], media: Media, rows: int, tokens: int, draw: int) -> list[Any]:
    return ask(media, rows, tokens=tokens, draw=draw, image_size=image_size)


def enter(
    running: contextlib.ExitStack,
    loaded: LoadedModel,
    folder: Path,
    options: argparse.Namespace,
    threads: int,
    left_out: dict[str, str],
) -> Iterator[Contestant]:
    """Start the contestants; those that cannot run go to ``left_out``. All end with ``running``."""
    wanted = [name for name in CONTESTANTS if name not in options.skip]
    choices = [threads, os.cpu_count() or 1] if options.device == "cpu" else [threads]
    if any(name.startswith("engine") for name in wanted):
        engine = Engine(loaded, max_batch_size=max(options.rows), torch_threads=threads)
        running.callback(engine.stop)
        engine.start()
        if "engine" in wanted:
            yield EngineContestant(engine)
        if "engine-thread-a-reader" in wanted:
            yield EngineContestant(engine, thread_a_reader=True)
        if "engine-with-a-schema" in wanted:
            yield EngineContestant(engine, constraint=Constraint("json_schema", json.dumps(SCHEMA)), name=WITH_SCHEMA)
    if options.device == "cpu" and {"static-batch", "generate-a-thread"} & set(wanted):
        # The engine has put the weights of its model into other forms, which would be faster for these too.
        loaded = load_model(str(folder), dtype=options.dtype, device_map=options.device)
    if "static-batch" in wanted:
        yield StaticBatch(loaded, thread_choices=choices)
    if "generate-a-thread" in wanted:
        yield GenerateAThread(loaded, thread_choices=choices)
    if "transformers-serve" in wanted:
        tell("starting transformers serve")
        try:
            server = TransformersServe(folder, device=options.device, dtype=options.dtype, torch_threads=threads)
        except LeftOut as reason:
            left_out[TransformersServe.name] = str(reason)
        else:
            running.callback(server.close)
            yield server


def winning_threads(contestants: Sequence[Contestant]) -> dict[str, dict[int, int]]:
    """How often the baselines were faster with which number of torch threads."""
    return {
        contestant.name: dict(sorted(contestant.threads.won.items()))
        for contestant in contestants
        if isinstance(contestant, StaticBatch | GenerateAThread)
    }


def bounds(loaded: LoadedModel, threads: int) -> dict[str, float]:
    """What memory and arithmetic allow, with the engine's number of torch threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    bandwidth, peak = copy_bandwidth(loaded.device), peak_operations(loaded.device, loaded.model.dtype)
    torch.set_num_threads(before)
    number, size = decoder_weights(loaded.model)
    return {
        "copy_gb_per_second": bandwidth / 1e9,
        "peak_gigaflops": peak / 1e9,
        "decoder_gb": size / 1e9,
        "bound_tokens_per_second": bandwidth / size,
        "peak_tokens_per_second": peak / (2 * number),
    }


def quiet_libraries() -> None:
    """Hide the warning of each ``generate`` that ignores the end token."""
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    set_verbosity_error()
    disable_progress_bar()


def tell(text: str) -> None:
    """Show the progress on a line that the next one overwrites; only on a terminal."""
    if sys.stderr.isatty():
        print(f"\r{text:78}", end="" if text else "\r", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
