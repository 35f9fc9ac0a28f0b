"""What an engine reports: the counters of its work, and the facts of its model. No tensors, no torch."""

from __future__ import annotations

from dataclasses import dataclass

from inference.engine.vision import ModelVision


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot of the engine's counters."""

    #: rows of the batch in use, and their maximum
    running: int
    max_batch_size: int
    #: requests that were submitted and are not in the batch yet
    waiting: int
    #: totals since the engine was created
    generated_tokens: int
    decode_steps: int
    #: prompt tokens, and how many of them came from the prefix cache
    prompt_tokens: int
    reused_tokens: int
    #: images and video frames whose encoding was cached
    media_hits: int
    #: generations preempted because the memory for keys and values was full
    evictions: int
    #: bytes of keys and values of the running rows now
    cache_bytes: int
    #: bytes kept for later requests now: cached prefixes and media
    kept_bytes: int
    #: rows times the length of the longest, now and at most
    running_tokens: int
    max_running_tokens: int
    #: name of the device, and on a CPU the dtype and the forms of the weights, for display
    device: str
    #: bytes in use on the model's GPUs (by any process), and their total; 0 on a CPU
    device_bytes: int
    max_device_bytes: int
    #: memory of the engine's process, and its processor time so far
    process_bytes: int
    process_cpu_seconds: float


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What does not change while the model is loaded."""

    #: changes with weights, configuration, tokenizer and processor
    revision: str
    #: dtype of the weights, such as "bfloat16"
    dtype: str
    #: "none", or the quantization: those that round differently have different names, see ``start.py``
    quantization: str
    #: the grammar library and its version
    grammars: str
    #: such as "cpu" or "cuda:0"
    device: str
    #: the sizes at which the model sees media; None when they are unknown, and for a text-only model
    vision: ModelVision | None
    #: rows of the batch; ``RESERVED_SLOTS`` are among them
    max_batch_size: int
    #: rows times the length of the longest, at most
    max_running_tokens: int
