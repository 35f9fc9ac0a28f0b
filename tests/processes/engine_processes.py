"""An engine's configuration and requests, for the tests of its process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from inference.engine.config import EngineConfig
from inference.engine.types import Delta, GenerationRequest, Sampling
from inference.engine_process.client import EngineProcess

DEADLINE_SECONDS = 60.0
Start = Callable[..., EngineProcess]


def config(model: Path | str, **changes: Any) -> EngineConfig:
    return EngineConfig(
        source=str(model),
        dtype="float32",
        device_map="cpu",
        quantization="none",
        hf_token=None,
        trust_remote_code=False,
        torch_threads=1,
        choices_folder=None,
        rows=changes.pop("rows", 4),
        reserved_rows=0,
        max_context_tokens=None,
        kv_cache_bytes=2**26,
        reuse_prefixes=True,
        media_cache_bytes=2**20,
        prefill_chunk_tokens=64,
        cuda_graphs=False,
        compile_step=False,
        **changes,
    )


def request(content: Any = "Apa kabar?", *, images: Any = (), videos: Any = (), **sampling: Any) -> GenerationRequest:
    wanted = Sampling(**{"max_tokens": 20, "ignore_eos": True, **sampling})
    return GenerationRequest([{"role": "user", "content": content}], wanted, images=images, videos=videos)


def endless(**sampling: Any) -> GenerationRequest:
    return request(max_tokens=3000, **sampling)


def first_delta(handle: Any) -> Delta:
    item = next(handle)
    assert isinstance(item, Delta)
    return item


def is_running(pid: int) -> bool:
    """A process that has ended and was not waited for does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)
