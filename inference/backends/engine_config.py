"""The engine's configuration, from the settings."""

from __future__ import annotations

from django.conf import settings

from inference.engine.config import EngineConfig

#: beside the SQLite file, or where it would be
CHOICES_FOLDER = "cpu-dtypes"


def engine_config() -> EngineConfig:
    return EngineConfig(
        source=settings.MODEL_REPO_ID,
        dtype=settings.TORCH_DTYPE,
        device_map=settings.DEVICE_MAP,
        quantization=settings.QUANTIZATION,
        hf_token=settings.HF_TOKEN or None,
        trust_remote_code=settings.TRUST_REMOTE_CODE,
        torch_threads=settings.TORCH_THREADS or None,
        choices_folder=(settings.BASE_DIR / settings.SESSIONS_DB_PATH).parent / CHOICES_FOLDER,
        rows=settings.MAX_BATCH_SIZE or None,
        reserved_rows=settings.RESERVED_SLOTS,
        max_context_tokens=settings.MAX_CONTEXT_TOKENS or None,
        kv_cache_bytes=settings.KV_CACHE_MB * 2**20 or None,
        reuse_prefixes=settings.PREFIX_CACHE,
        media_cache_bytes=settings.MEDIA_CACHE_MB * 2**20,
        prefill_chunk_tokens=settings.PREFILL_CHUNK_TOKENS or None,
        cuda_graphs=settings.CUDA_GRAPHS,
        compile_step=settings.TORCH_COMPILE,
    )
