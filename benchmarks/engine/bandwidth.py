"""The bounds that the machine sets: the bandwidth of its memory to a single stream, its arithmetic to a full batch.

Every weight of the decoder is read once for a step, and takes part in a multiplication and an addition for every row.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch

COPIED_BYTES = 2**30
COPIES = 20
#: on a CPU, where both take longer
CPU_COPIED_BYTES = 2**28
CPU_COPIES = 8
#: rows, columns and depth of the product that tells the peak
PEAK_SIDE = 2048


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second of a copy within the device's memory, read and written counted; the best of several."""
    size, copies = (CPU_COPIED_BYTES, CPU_COPIES) if device.type == "cpu" else (COPIED_BYTES, COPIES)
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / _best_seconds(lambda: target.copy_(source), copies, device)


def peak_operations(device: torch.device, dtype: torch.dtype) -> float:
    """Additions and multiplications a second in a large product of matrices; the best of several."""
    matrix = torch.randn(PEAK_SIDE, PEAK_SIDE, device=device).to(dtype)
    return 2 * PEAK_SIDE**3 / _best_seconds(lambda: matrix @ matrix, CPU_COPIES, device)


def decoder_weights(model: Any) -> tuple[int, int]:
    """(number, bytes) of the weights that a decode step reads: all layers and the output, but not the embedding.

    To be counted before an engine has the model, because it holds the weights in other forms.
    """
    embedding = model.get_input_embeddings().weight
    read = [p for p in model.model.language_model.parameters() if p is not embedding]
    weights = {p.data_ptr(): p for p in [*read, model.get_output_embeddings().weight]}
    return sum(p.numel() for p in weights.values()), sum(p.nbytes for p in weights.values())


def _best_seconds(run: Callable[[], object], times: int, device: torch.device) -> float:
    best = math.inf
    for _ in range(times):
        _wait_for(device)
        started = time.perf_counter()
        run()
        _wait_for(device)
        best = min(best, time.perf_counter() - started)
    return best


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
