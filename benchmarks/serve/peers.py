"""The servers of other projects that the same folder of weights is given to: vLLM and ``transformers serve``."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.engine.questions import GREEDY_FIELDS, bodies
from benchmarks.engine.runs import LeftOut
from benchmarks.engine.transformers_serve import GREEDY, start_transformers
from benchmarks.peer_process import PeerProcess
from benchmarks.serve import vllm_environment
from benchmarks.serve.clients import as_run, run_clients
from inference.engine.types import GenerationRequest

SITE = Path(__file__).with_name("site")
#: vLLM compiles the model the first time
START_SECONDS = 900.0
CONTEXT_LENGTH = 4096
#: of a stream in vLLM's cache beside its answer: the prompt, with an image of 640×480, rounded up to blocks
PROMPT_TOKENS = 512
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Load:
    """What all servers of a run are given."""

    model: Path
    dtype: str
    torch_threads: int
    #: at once, at most
    streams: int
    #: of an answer
    tokens: int


@dataclass(frozen=True, slots=True)
class Peer:
    """A running server, asked as ours are."""

    name: str
    version: str
    process: PeerProcess
    #: of the request: greedy, without an end before all tokens, and with their number
    fields: Mapping[str, Any]
    #: what it was started with
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def pids(self) -> list[int]:
        return [self.process.pid]

    def run(self, requests: Sequence[GenerationRequest], *, every_seconds: float = 0.0) -> dict[str, Any]:
        """Stream all answers; raises RuntimeError when one is not whole."""
        tokens = sum(request.sampling.max_tokens for request in requests)
        asked = bodies(requests, **self.fields)
        try:
            found = run_clients(self.process.port, asked, every_seconds=every_seconds, pids=self.pids)
        except RuntimeError as error:
            raise RuntimeError(f"{self.name}: {error}\nthe end of its log:\n{self.process.log_end()}") from error
        if found["tokens"] != [request.sampling.max_tokens for request in requests]:
            raise RuntimeError(f"{self.name} generated {found['tokens']} tokens, which is not what was asked for")
        return as_run(found, tokens, ["all"])


@contextlib.contextmanager
def start_vllm(load: Load, folder: Path) -> Iterator[Peer]:
    """Raises LeftOut when it cannot be installed or does not start, with the end of its log."""
    programs = vllm_environment.prepared()
    # The variables of vLLM that are set already are kept.
    settings = {
        "VLLM_CPU_KVCACHE_SPACE": str(cache_gib(load)),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(load.torch_threads or os.cpu_count()),
    }
    settings |= {name: os.environ[name] for name in settings if name in os.environ}
    env = os.environ | {
        "PYTHONPATH": str(SITE),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CACHE_ROOT": str(vllm_environment.CACHE),
        "TORCHINDUCTOR_CACHE_DIR": str(vllm_environment.CACHE / "inductor"),
    }
    # By a name that is the same in each run: what it has compiled is kept under it.
    name = load.model.name
    options = {
        "--dtype": load.dtype,
        "--max-num-seqs": str(load.streams),
        "--max-model-len": str(CONTEXT_LENGTH),
        "--limit-mm-per-prompt": json.dumps({"image": 1, "video": 0}),
    }
    where = {"--host": "127.0.0.1", "--port": "{port}"}
    process = PeerProcess(
        [str(programs / "vllm"), "serve", name, *(part for pair in (where | options).items() for part in pair)],
        env=env | settings,
        cwd=load.model.parent,
        log=folder / "vllm.log",
    )
    with _running(process):
        yield Peer("vllm", vllm_environment.version(), process, GREEDY_FIELDS | {"model": name}, settings | options)


@contextlib.contextmanager
def start_transformers_serve(load: Load, folder: Path) -> Iterator[Peer]:
    """Raises LeftOut when it does not start, with the end of its log."""
    process = start_transformers(
        load.model,
        device="cpu",
        dtype=load.dtype,
        torch_threads=load.torch_threads or os.cpu_count() or 1,
        log=folder / "transformers.log",
    )
    fields = {"model": str(load.model), "generation_config": GREEDY}
    settings = {"--dtype": load.dtype, "OMP_NUM_THREADS": str(load.torch_threads or os.cpu_count())}
    with _running(process):
        yield Peer("transformers serve", version("transformers"), process, fields, settings)


@contextlib.contextmanager
def _running(process: PeerProcess) -> Iterator[None]:
    try:
        try:
            process.wait(START_SECONDS)
        except LeftOut as reason:
            raise LeftOut(f"{reason}\nthe end of its log:\n{process.log_end()}") from None
        yield
    finally:
        process.close()


def cache_gib(load: Load) -> int:
    """Enough for the keys and values of all streams, in whole GiB, which is what vLLM takes."""
    text = json.loads((load.model / "config.json").read_text())["text_config"]
    numbers = 2 * text["num_hidden_layers"] * text["num_key_value_heads"] * text["head_dim"]
    size = 4 if load.dtype == "float32" else 2
    return max(1, math.ceil(numbers * size * (PROMPT_TOKENS + load.tokens) * load.streams / GIB))


PEERS: dict[str, Callable[[Load, Path], contextlib.AbstractContextManager[Peer]]] = {
    "vllm": start_vllm,
    "transformers": start_transformers_serve,
}
