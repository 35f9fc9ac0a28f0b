"""What an engine is made from: plain values, which can be sent to another process. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Fields without a comment are settings of the same meaning, see ``load_model`` and ``Engine``."""

    source: str
    dtype: str
    device_map: str
    quantization: str
    hf_token: str | None
    trust_remote_code: bool
    torch_threads: int | None
    choices_folder: Path | None
    #: rows of the batch without the reserved ones; None takes as many as the memory allows
    rows: int | None
    reserved_rows: int
    max_context_tokens: int | None
    kv_cache_bytes: int | None
    reuse_prefixes: bool
    media_cache_bytes: int
    prefill_chunk_tokens: int | None
    cuda_graphs: bool
    compile_step: bool
