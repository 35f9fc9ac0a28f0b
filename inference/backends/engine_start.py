"""Starts the engine as configured: one loaded model with one running batch."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings

from inference.engine.engine import Engine
from inference.engine.loading import LoadedModel, load_model
from inference.engine.memory import default_rows
from inference.engine.progress import Progress

#: beside the SQLite file, or where it would be
CHOICES_FOLDER = "cpu-dtypes"


def start_engine(on_progress: Callable[[Progress], None]) -> tuple[LoadedModel, Engine]:
    """Load ``MODEL_REPO_ID`` and start an engine over it; takes seconds to minutes. Raises ``EngineError``.

    ``on_progress`` is called with the progress of loading. The caller must stop the engine.
    """
    loaded = load_model(
        settings.MODEL_REPO_ID,
        dtype=settings.TORCH_DTYPE,
        device_map=settings.DEVICE_MAP,
        quantization=settings.QUANTIZATION,
        hf_token=settings.HF_TOKEN or None,
        trust_remote_code=settings.TRUST_REMOTE_CODE,
        torch_threads=settings.TORCH_THREADS or None,
        choices_folder=(settings.BASE_DIR / settings.SESSIONS_DB_PATH).parent / CHOICES_FOLDER,
        on_progress=on_progress,
    )
    kv_cache_bytes = settings.KV_CACHE_MB * 2**20 or None
    rows = settings.MAX_BATCH_SIZE or default_rows(
        loaded, max_bytes=kv_cache_bytes, reuse_prefixes=settings.PREFIX_CACHE
    )
    engine = Engine(
        loaded,
        max_batch_size=rows + settings.RESERVED_SLOTS,
        reserved_rows=settings.RESERVED_SLOTS,
        max_context_tokens=settings.MAX_CONTEXT_TOKENS or None,
        kv_cache_bytes=kv_cache_bytes,
        reuse_prefixes=settings.PREFIX_CACHE,
        media_cache_bytes=settings.MEDIA_CACHE_MB * 2**20,
        prefill_chunk_tokens=settings.PREFILL_CHUNK_TOKENS,
        cuda_graphs=settings.CUDA_GRAPHS,
        compile_step=settings.TORCH_COMPILE,
        torch_threads=settings.TORCH_THREADS or None,
    )
    engine.start()
    return loaded, engine
