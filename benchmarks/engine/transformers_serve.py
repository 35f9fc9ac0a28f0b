"""``transformers serve`` as a contestant: its server in a process of its own, asked over HTTP.

As a program this module is that server's command line, on machines where torchvision needs help to be imported.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from benchmarks.engine.questions import bodies
from benchmarks.engine.runs import LeftOut, Run
from benchmarks.peer_process import PeerProcess
from inference.engine.types import GenerationRequest
from tests.live.stack import ROOT

#: what `transformers[serving]` installs and this project does not need
NEEDED = ("fastapi", "openai", "uvicorn")
START_SECONDS = 120.0
GREEDY = json.dumps({"do_sample": False, "eos_token_id": -1, "pad_token_id": 0})


def start_transformers(model: Path, *, device: str, dtype: str, torch_threads: int, log: Path) -> PeerProcess:
    """Its server, which is not ready yet. Raises LeftOut when a package is missing."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise LeftOut(f"{' and '.join(missing)} missing: pip install -r requirements/benchmarks.txt")
    return PeerProcess(
        [
            *(sys.executable, "-m", "benchmarks.engine.transformers_serve", "serve", str(model)),
            *("--host", "127.0.0.1", "--port", "{port}", "--device", device, "--dtype", dtype),
        ],
        env=os.environ | {"OMP_NUM_THREADS": str(torch_threads), "HF_HUB_OFFLINE": "1"},
        cwd=ROOT,
        log=log,
    )


class TransformersServe:
    """It answers requests to vision models one by one with any options, so it is started with its defaults."""

    name = "transformers serve"
    batches = False
    takes_arrivals = True

    def __init__(self, model: Path, *, device: str, dtype: str, torch_threads: int) -> None:
        self._model = str(model)
        self._folder = tempfile.TemporaryDirectory(prefix="sambung-transformers-")
        log = Path(self._folder.name) / "log"
        self._server = start_transformers(model, device=device, dtype=dtype, torch_threads=torch_threads, log=log)
        try:
            self._server.wait(START_SECONDS)
        except BaseException:
            self.close()
            raise

    def run(self, requests: Sequence[GenerationRequest], arrivals: Sequence[float]) -> Run:
        # Written out before the clock runs: images are long.
        asked = [json.dumps(b).encode() for b in bodies(requests, model=self._model, generation_config=GREEDY)]
        firsts = [0.0] * len(requests)
        tokens = [0] * len(requests)
        errors: list[BaseException] = []

        def one(row: int) -> None:
            try:
                time.sleep(arrivals[row])
                firsts[row], tokens[row] = self._stream(asked[row])
            except Exception as error:
                errors.append(error)

        readers = [threading.Thread(target=one, args=[row]) for row in range(len(requests))]
        started = time.perf_counter()
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        ended = time.perf_counter()
        if errors:
            raise RuntimeError(f"{type(errors[0]).__name__}; its log: {self._server.last_error()}") from errors[0]
        if sum(tokens) != sum(request.sampling.max_tokens for request in requests):
            raise RuntimeError(f"transformers serve generated {sum(tokens)} tokens, which is not what was asked for")
        return Run(tokens=sum(tokens), seconds=ended - started, first_token_seconds=tuple(firsts))

    def _stream(self, body: bytes) -> tuple[float, int]:
        """Seconds to the first text, and how many tokens came."""
        first, tokens = 0.0, 0
        headers = {"Content-Type": "application/json"}
        started = time.perf_counter()
        with httpx.stream(
            "POST", f"{self._server.url}/v1/chat/completions", content=body, headers=headers, timeout=300
        ) as response:
            response.raise_for_status()
            for line in response.iter_lines():
                if not first and '"content"' in line:
                    first = time.perf_counter() - started
                elif '"usage"' in line:
                    usage: dict[str, Any] = json.loads(line.removeprefix("data: "))["usage"]
                    tokens = usage["completion_tokens"]
        return first, tokens

    def close(self) -> None:
        self._server.close()
        self._folder.cleanup()


if __name__ == "__main__":
    from inference.engine import torchvision_compat

    torchvision_compat.declare_missing_operators()
    from transformers.cli.transformers import main

    main()
