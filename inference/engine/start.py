"""Loads a model and starts an engine over it, as configured."""

from __future__ import annotations

from collections.abc import Callable

from inference.engine import grammar
from inference.engine.config import EngineConfig
from inference.engine.engine import Engine
from inference.engine.int8 import LARGEST, fastest_states
from inference.engine.loading import LoadedModel, load_model
from inference.engine.memory import default_rows
from inference.engine.progress import Listener
from inference.engine.stats import ModelFacts
from inference.engine.vision import ModelVision, VisionSizes


def start_engine(
    config: EngineConfig, on_progress: Listener, *, after_step: Callable[[], None] | None = None
) -> tuple[ModelFacts, Engine]:
    """Takes seconds to minutes. Raises ``EngineError``. The engine runs until it is stopped or the process ends.

    For ``after_step`` see ``Engine``.
    """
    loaded = load_model(
        config.source,
        dtype=config.dtype,
        device_map=config.device_map,
        quantization=config.quantization,
        hf_token=config.hf_token,
        trust_remote_code=config.trust_remote_code,
        torch_threads=config.torch_threads,
        choices_folder=config.choices_folder,
        on_progress=on_progress,
    )
    rows = config.rows or default_rows(loaded, max_bytes=config.kv_cache_bytes, reuse_prefixes=config.reuse_prefixes)
    engine = Engine(
        loaded,
        max_batch_size=rows + config.reserved_rows,
        reserved_rows=config.reserved_rows,
        max_context_tokens=config.max_context_tokens,
        kv_cache_bytes=config.kv_cache_bytes,
        reuse_prefixes=config.reuse_prefixes,
        media_cache_bytes=config.media_cache_bytes,
        prefill_chunk_tokens=config.prefill_chunk_tokens,
        cuda_graphs=config.cuda_graphs,
        compile_step=config.compile_step,
        torch_threads=config.torch_threads,
        after_step=after_step,
    )
    engine.start()
    return facts_of(loaded, engine), engine


def facts_of(loaded: LoadedModel, engine: Engine) -> ModelFacts:
    sizes = VisionSizes.of(loaded.processor) if loaded.has_media else None
    stats = engine.stats()
    return ModelFacts(
        revision=loaded.revision,
        dtype=loaded.dtype,
        quantization=_arithmetic_of(loaded),
        grammars=grammar.LIBRARY,
        device=str(loaded.device),
        vision=ModelVision(sizes, engine.max_context_tokens) if sizes else None,
        max_batch_size=stats.max_batch_size,
        max_running_tokens=stats.max_running_tokens,
    )


def _arithmetic_of(loaded: LoadedModel) -> str:
    """The quantization. "8bit" is bitsandbytes on a GPU and ``int8.py`` on a CPU, which round differently."""
    if loaded.quantization != "8bit" or loaded.device.type != "cpu":
        return loaded.quantization
    bits = 8 if fastest_states().largest == LARGEST else 7
    return f"8bit-cpu, states of {bits} bits"
